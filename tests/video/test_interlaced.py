"""Interlaced frames are deinterlaced, refused or kept, as asked for; progressive ones stay as they were decoded."""

import numpy as np
import pytest
import video_files
from video_fakes import restorer

from gpen_core import InputError, VideoOptions, restore_video
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

COUNT = 80
INTERLACED = {"flags": "+ildct+ilme", "x264-params": "tff=1:keyint=25:bframes=2"}


def woven():
    """Even rows of one moment and odd rows of the next."""
    moments = list(video_files.moving_noise(2 * COUNT, (96, 64)))
    for first, second in zip(moments[::2], moments[1::2]):
        frame = first.copy()
        frame[1::2] = second[1::2]
        yield frame


@pytest.fixture(scope="module")
def interlaced(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mkv"
    return video_files.write_video(path, COUNT, options=INTERLACED, pictures=woven())


def combing(frame):
    """How far rows are from the mean of their neighbors."""
    luma = frame.native.arrays[0].astype(float)
    return np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean()


def test_one_field_stays_and_the_combs_go(interlaced):
    info = probe(interlaced)
    assert info.is_interlaced
    kept, reader = list(FrameReader(info, interlaced="keep").frames()), FrameReader(info)
    frames = list(reader.frames())
    assert [frame.pts for frame in frames] == [frame.pts for frame in kept] and len(frames) == COUNT
    assert reader.notes == ["Interlaced frames were deinterlaced (bwdif)."]
    lumas = [(one.native.arrays[0], other.native.arrays[0]) for one, other in zip(kept, frames)]
    assert any(all(np.array_equal(one[n::2], other[n::2]) for one, other in lumas) for n in range(2))
    assert np.mean([combing(one) for one in frames]) < 0.5 * np.mean([combing(one) for one in kept])


@pytest.mark.parametrize("first", [1, 25, 52, 79])
def test_frames_after_a_resume_are_the_same(interlaced, first):
    info = probe(interlaced)
    frames = list(FrameReader(info).frames())
    rest = list(FrameReader(info).frames(first, [frame.pts for frame in frames]))
    assert len(rest) == COUNT - first
    assert all(np.array_equal(a.native.arrays[0], b.native.arrays[0]) for a, b in zip(frames[first:], rest))


def test_it_is_refused_if_that_is_asked_for(tmp_path, interlaced):
    runner, network = restorer()
    with pytest.raises(InputError, match=r"is interlaced: .*Set interlaced to deinterlace"):
        restore_video(interlaced, tmp_path / "o.mkv", runner, None, VideoOptions(interlaced="refuse"))
    assert network.faces == 0 and not (tmp_path / "o.mkv.unfinished").exists()


def test_interlaced_frames_after_progressive_ones(tmp_path):
    """Transport streams joined one behind the other. The first interlaced frame has one before it also after a resume."""
    progressive = video_files.write_video(tmp_path / "p.ts", 30, options={"x264-params": "keyint=10:bframes=0"})
    times = [n * 3600 + 30 * 3600 for n in range(COUNT)]
    base = {"times": times, "base": video_files.Fraction(1, 90000)}
    second = video_files.write_video(tmp_path / "i.ts", COUNT, options=INTERLACED, pictures=woven(), **base)
    (tmp_path / "both.ts").write_bytes(progressive.read_bytes() + second.read_bytes())
    info = probe(tmp_path / "both.ts")
    assert not info.is_interlaced
    kept, frames = (list(FrameReader(info, interlaced=mode).frames()) for mode in ("keep", "deinterlace"))
    assert len(frames) == len(kept) == 30 + COUNT
    same = [np.array_equal(a.native.arrays[0], b.native.arrays[0]) for a, b in zip(kept, frames)]
    assert same[:30] == [True] * 30 and sum(same) < 35
    with pytest.raises(InputError, match="is interlaced"):
        list(FrameReader(info, interlaced="refuse").frames())

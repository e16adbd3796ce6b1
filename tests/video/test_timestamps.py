"""Timestamps that a container cannot hold are refused before the frames are restored."""

from fractions import Fraction

import numpy as np
import pytest
import video_files
from video_fakes import SIZE, frames, restorer

from gpen_core import InputError, OutputError, VideoOptions, restore_video
from gpen_core.video.encoding import Encoding, resolve_encoding
from gpen_core.video.mux import concatenate
from gpen_core.video.probe import probe
from gpen_core.video.timestamps import check_timestamps
from gpen_core.video.writer import SegmentWriter

DAY = 86_400_000  # ms
COUNT = 4


@pytest.fixture
def film(tmp_path):
    """Frames a day apart, with a clock of less than 20 microseconds."""
    times = [n * 40 if n < COUNT // 2 else DAY + n * 40 for n in range(COUNT)]
    path = tmp_path / "film.nut"
    made = video_files.write_video(
        path, COUNT, SIZE, "ffv1", times=times, base=Fraction(1, 1000), pictures=list(frames(COUNT))
    )
    return probe(made)


def test_frames_that_are_far_apart_are_refused_for_mp4_and_a_container_is_named(film, tmp_path):
    runner, network = restorer()
    with pytest.raises(InputError, match=r"up to 86400 s apart, which a \.mp4 file cannot hold .* Name the output \.mkv\."):
        restore_video(film.path, tmp_path / "out.mp4", runner, None, VideoOptions(temporal_smoothing=0))
    assert network.faces == 0 and not (tmp_path / "out.mp4").exists()
    assert not list((tmp_path / "out.mp4.unfinished").rglob("*.part"))


def test_the_named_container_holds_them(film, tmp_path):
    runner, _ = restorer()
    result = restore_video(film.path, tmp_path / "out.mkv", runner, None, VideoOptions(temporal_smoothing=0))
    assert len(result.restored) == COUNT
    assert video_files.read_frames(tmp_path / "out.mkv")[-1].shape == (*SIZE[::-1], 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".nut"])
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_usual_timestamps_pass(film, tmp_path, suffix, codec):
    """Also irregular ones, and ones that do not begin at 0."""
    target = tmp_path / f"out{suffix}"
    encoding = resolve_encoding(film, target, Encoding(codec))
    pts = np.cumsum(np.random.default_rng(0).integers(1280, 5120, 50))  # 20 to 80 ms
    check_timestamps(film, pts, target, encoding, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["film.nut"]


def test_an_output_that_fails_at_the_end_is_not_blamed_on_the_disk(film, tmp_path):
    target = tmp_path / "out.mp4"
    encoding = resolve_encoding(film, target, Encoding())
    with SegmentWriter(tmp_path / "segment", film, encoding) as writer:
        for frame in video_files.FrameReader(film).frames():
            writer.write(frame)
    with pytest.raises(OutputError, match=r"cannot be written.*The segments are kept: name another place.*\.mkv"):
        concatenate([tmp_path / "segment"], film, target, encoding=encoding)

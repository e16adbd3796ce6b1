"""Recordings of MiniDV cameras, as the programs that copy a tape write them."""

import numpy as np
import pytest
import video_files
from video_fakes import restorer

from gpen_core import output_suffix, restore_video
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

COUNT = 11  # frames that the muxer writes of 12, because the sound is shorter


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "tape.dv"
    pal = {"codec": "dvvideo", "size": (720, 576)}
    return video_files.write_video(path, COUNT + 1, container="dv", sound="pcm_s16le", layout="stereo", **pal)


def test_frames_and_sound_of_a_tape(tape, tmp_path):
    assert output_suffix(tape) == ".mp4"
    info = probe(tape)
    assert (info.size, info.rate, info.codec) == ((720, 576), 25, "dvvideo")
    result = restore_video(tape, tmp_path / "out.mkv", restorer(faces=())[0])
    assert len(result.restored) == COUNT and not [note for note in result.notes if "cut off" in note]
    assert video_files.digests(tape)[1] == video_files.digests(tmp_path / "out.mkv")[1]
    times = [frame.seconds for frame in FrameReader(probe(tmp_path / "out.mkv")).frames()]
    assert times == pytest.approx(np.arange(COUNT) / 25, abs=0.001)


def test_frames_from_the_middle_of_a_tape(tape):
    info = probe(tape)
    frames = list(FrameReader(info).frames())
    rest = list(FrameReader(info).frames(7, [frame.pts for frame in frames]))
    assert [frame.number for frame in rest] == list(range(7, COUNT))
    assert all(np.array_equal(one.native.arrays[0], other.native.arrays[0]) for one, other in zip(frames[7:], rest))

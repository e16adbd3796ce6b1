"""Timestamps that a container cannot hold are refused before the frames are restored."""

import errno
import os
from fractions import Fraction

import av
import numpy as np
import pytest
import video_files
from video_fakes import SIZE, frames, restorer

from gpen_core import InputError, OutputError, VideoOptions, restore_video
from gpen_core.video.encoding import resolve_encoding
from gpen_core.video.mux import concatenate
from gpen_core.video.probe import probe
from gpen_core.video.timestamps import check_timestamps
from gpen_core.video.writer import SegmentWriter

needs_clock = pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV sets no clock for streams that are copied"
)
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
    with pytest.raises(InputError, match=r"up to 86400 s apart, which a \.mp4 file cannot hold .* Write a \.mkv file\."):
        restore_video(film.path, tmp_path / "out.mp4", runner, None, VideoOptions(temporal_smoothing=0))
    assert network.faces == 0 and not (tmp_path / "out.mp4").exists()
    assert not list((tmp_path / "out.mp4.unfinished").rglob("*.part"))


def test_the_named_container_holds_them(film, tmp_path):
    runner, _ = restorer()
    result = restore_video(film.path, tmp_path / "out.mkv", runner, None, VideoOptions(temporal_smoothing=0))
    assert len(result.restored) == COUNT
    assert video_files.read_frames(tmp_path / "out.mkv")[-1].shape == (*SIZE[::-1], 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", pytest.param(".avi", marks=needs_clock), ".ts", ".nut"])
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_usual_timestamps_pass(film, tmp_path, suffix, codec):
    """Also irregular ones, and ones that do not begin at 0."""
    target = tmp_path / f"out{suffix}"
    encoding = resolve_encoding(film, target, VideoOptions(codec=codec))
    pts = np.cumsum(np.random.default_rng(0).integers(1280, 5120, 50))  # 20 to 80 ms
    check_timestamps(video_files.FrameReader(film), pts, target, encoding, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["film.nut"]


def write_segment(film, path, target):
    """One segment of all frames; returns the encoding."""
    encoding = resolve_encoding(film, target, VideoOptions())
    with SegmentWriter(path, film, encoding) as writer:
        for frame in video_files.FrameReader(film).frames():
            writer.write(frame)
    return encoding


def test_an_output_that_fails_at_the_end_is_not_blamed_on_the_disk(film, tmp_path):
    target = tmp_path / "out.mp4"
    encoding = write_segment(film, tmp_path / "segment", target)
    with pytest.raises(
        OutputError, match=r"cannot be written.*The finished segments are kept; choose another folder.*\.mkv"
    ):
        concatenate([tmp_path / "segment"], video_files.FrameReader(film), target, encoding)


def test_a_full_disk_at_the_end_does_not_lose_the_segments(film, tmp_path):
    target = tmp_path / "out.mkv"
    encoding = write_segment(film, tmp_path / "segment", target)

    def full(event):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"No space left on device\. The finished segments are kept; free some space"):
        concatenate([tmp_path / "segment"], video_files.FrameReader(film), target, encoding, full)


def test_a_full_disk_is_not_blamed_on_the_timestamps(film, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    encoding = resolve_encoding(film, tmp_path / "out.mkv", VideoOptions())
    with pytest.raises(OutputError, match=r"because the disk is full\. Free some space and run again"):
        check_timestamps(video_files.FrameReader(film), np.array([0, 40, 80, 120]), tmp_path / "out.mkv", encoding, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["film.nut"]


@pytest.mark.parametrize("suffix", [".ts", ".m2ts", ".avi"])
def test_a_clock_that_starts_again_after_a_day_is_refused(film, tmp_path, suffix):
    """A transport stream counts 26.5 hours and then from 0; AVI would need a million empty frames."""
    encoding = resolve_encoding(film, tmp_path / f"o{suffix}", VideoOptions(codec="h264"))
    pts = np.array([0, 40, 80, DAY, DAY + 40]) * round(1 / film.time_base) // 1000
    with pytest.raises(InputError, match=rf"which a {suffix} file cannot hold .*Write a \.mkv file"):
        check_timestamps(video_files.FrameReader(film), pts, tmp_path / f"o{suffix}", encoding, tmp_path)


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".mp4"])
def test_a_clock_that_starts_late_is_no_reason_to_refuse(tmp_path, suffix):
    """The output's starts at 0: after 30 days FLV's own would begin again."""
    times = [30 * DAY * 90 + n * 3600 for n in range(6)]
    film = probe(video_files.write_video(tmp_path / "a.nut", 6, times=times, base=Fraction(1, 90_000)))
    target = tmp_path / f"o{suffix}"
    encoding = resolve_encoding(film, target, VideoOptions(codec="h264"))
    check_timestamps(video_files.FrameReader(film), np.array(times), target, encoding, tmp_path)
    with SegmentWriter(tmp_path / "segment", film, encoding) as writer:
        for frame in video_files.FrameReader(film).frames():
            writer.write(frame)
    concatenate([tmp_path / "segment"], video_files.FrameReader(film), target, encoding)
    seconds = [frame.seconds for frame in video_files.FrameReader(probe(target)).frames()]
    assert seconds == pytest.approx([n * 0.04 for n in range(6)], abs=0.0011) and probe(target).clock_start < 2


@needs_clock
@pytest.mark.parametrize("codec", ["auto", "mpeg2video"])
def test_mxf_is_written_whole(tmp_path, codec):
    """Of more frames than MXF counts from a key frame, with sound."""
    source = video_files.write_video(tmp_path / "a.mov", 140, (64, 48), sound="pcm_s16le")
    film, target = probe(source), tmp_path / "o.mxf"
    encoding = resolve_encoding(film, target, VideoOptions(codec=codec))
    frames_ = list(video_files.FrameReader(film).frames())
    check_timestamps(video_files.FrameReader(film), np.array([frame.pts for frame in frames_]), target, encoding, tmp_path)
    with SegmentWriter(tmp_path / "segment", film, encoding) as writer:
        for frame in frames_:
            writer.write(frame)
    concatenate([tmp_path / "segment"], video_files.FrameReader(film), target, encoding)
    after = list(video_files.FrameReader(probe(target)).frames())
    assert [frame.seconds for frame in after] == pytest.approx([n / 25 for n in range(140)])
    assert all(video_files.psnr(a.image.pixels, b.image.pixels) > 30 for a, b in zip(frames_, after))
    assert [one.kind for one in probe(target).streams if one.kind != "data"] == ["video", "audio"]

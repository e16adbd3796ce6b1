"""How many frames wait between the stages is bounded by the memory that is allowed."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import video_files
from helpers import make_face
from video_fakes import SIZE, frames, restorer

from gpen_core import InputError, OutOfMemory, VideoOptions, restore_video
from gpen_core.errors import ImageTooLarge
from gpen_core.pipeline import devices
from gpen_core.video import limits
from gpen_core.video.encoding import Encoding
from gpen_core.video.frame_memory import estimate_bytes, prefetch_depth
from gpen_core.video.frame_restorer import PREFETCH_DEPTH
from gpen_core.video.probe import probe
from gpen_core.video.track import Track
from gpen_core.video.track_plan import TrackPlan


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("films") / "film.mkv"
    video_files.write_video(path, 12, SIZE, "ffv1", pictures=list(frames(12)))
    return probe(path)


def chosen(first, count):
    points = np.tile(make_face((120.0, 96.0), 70.0).landmarks, (count, 1, 1))
    track = Track(0, first, points, np.zeros((count, 4)), np.ones(count), points, False, False, 0)
    return TrackPlan(track, 256, restorer()[0].models, 1, False, make_face((120.0, 96.0), 70.0))


ENCODING = Encoding(encoder="ffv1", format="yuv420p", size=SIZE)


def test_without_a_budget_as_many_wait_as_is_fast(film):
    assert prefetch_depth(film, ENCODING, [], 3, None) == PREFETCH_DEPTH


def test_a_smaller_budget_lets_fewer_wait_and_too_small_a_one_is_refused(film):
    least, usual = (estimate_bytes(film, ENCODING, [], 3, depth) for depth in (1, PREFETCH_DEPTH))
    assert least < usual
    assert (
        prefetch_depth(film, ENCODING, [], 3, usual) == PREFETCH_DEPTH
        and prefetch_depth(film, ENCODING, [], 3, usual - 1) == 1
    )
    with pytest.raises(OutOfMemory, match=r"240 x 192 need about \d+\.\d MiB .* limit is \d+\.\d MiB"):
        prefetch_depth(film, ENCODING, [], 3, least - 1)


def test_faces_that_are_there_together_count_together(film):
    def needed(*some, radius=3):
        return estimate_bytes(film, ENCODING, some, radius, 1)

    none, one = needed(), needed(chosen(0, 50))
    together, after = needed(chosen(0, 50), chosen(40, 50)), needed(chosen(0, 50), chosen(60, 50))
    assert none < one == after < together == none + 2 * (one - none)
    assert needed(chosen(0, 50), radius=0) < one  # without a filter


@pytest.mark.parametrize(
    ("size", "encoder", "count", "depth", "measured"),
    [
        ((1920, 1080), "libx264", 70, 2, 801),
        ((3840, 2160), "mpeg4", 24, 2, 1495),
        ((4096, 4096), "libx264", 60, 2, 4607),
        ((7680, 4320), "mpeg4", 36, 2, 4057),
        ((7680, 4320), "mpeg4", 36, 1, 3644),
    ],
)
def test_the_estimate_is_near_what_was_measured(film, monkeypatch, size, encoder, count, depth, measured):
    """MiB beyond an idle process, on two cores, with one face (docs/video-benchmarks.md)."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    large, encoding = replace(film, size=size), replace(ENCODING, encoder=encoder, size=size)
    assert 0.95 < estimate_bytes(large, encoding, [], 3, depth, count) / 2**20 / measured < 1.25


@pytest.mark.parametrize("cores", [2, 64])
@pytest.mark.parametrize(("encoder", "format_"), [("libx264", "yuv420p"), ("libx265", "yuv420p10le")])
def test_8k_fits_into_half_of_32_gib(film, monkeypatch, encoder, format_, cores):
    """Less what the system keeps for itself."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    large = replace(film, size=(7680, 4320), format=format_)
    encoding = Encoding(encoder=encoder, format=format_, size=large.size)
    assert prefetch_depth(large, encoding, [], 3, int(15.5 * 2**30)) >= 1


def test_a_video_beyond_the_budget_is_refused_before_anything_is_loaded(film, tmp_path, monkeypatch):
    runner, _ = restorer()
    monkeypatch.setattr(runner, "prepare", lambda *_: pytest.fail("networks were loaded"))
    with pytest.raises(OutOfMemory, match="iB of memory, but the limit is"):
        restore_video(film.path, tmp_path / "out.mkv", runner, None, VideoOptions(codec="ffv1"), frame_memory=2**23)
    assert not (tmp_path / "out.mkv").exists()


def test_without_a_budget_half_of_the_memory_is_allowed(film, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "host_memory", lambda: 600 << 20)
    with pytest.raises(OutOfMemory, match=r"the limit is 300\.0 MiB"):
        restore_video(film.path, tmp_path / "out.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))


def test_large_frames_are_refused_by_the_header_before_one_is_decoded(film, tmp_path, monkeypatch):
    monkeypatch.setitem(limits.DECODER_OPTIONS, "max_pixels", "1000")  # decoding would fail, and be told
    with pytest.raises(OutOfMemory, match="240 x 192 need"):
        probe(film.path, max_memory=2**20)
    monkeypatch.setattr(limits, "MAX_PIXELS", 240 * 192 - 1)
    with pytest.raises(ImageTooLarge, match="240 x 192 pixels"):
        probe(film.path)


def test_a_decoder_refuses_frames_that_are_larger_than_any_header_may_say(film, monkeypatch):
    monkeypatch.setitem(limits.DECODER_OPTIONS, "max_pixels", "1000")
    with pytest.raises(InputError, match=r"has no .* frame that can be decoded"):
        probe(film.path)

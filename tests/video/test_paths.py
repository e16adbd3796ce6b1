"""Paths of videos may be strings, as those of images may be."""

import os

import numpy as np
import pytest
import video_fakes
import video_files
from PIL import Image

from gpen_core import InputError, MaskClip, OutputError, VideoOptions, output_suffix, restore_sequence, restore_video
from gpen_core.video.people import find_people
from gpen_core.video.preview import preview
from gpen_core.video.preview_clip import preview_clip

COUNT = 6
EXACT = VideoOptions(codec="ffv1", min_duration=0)


class Named(os.PathLike):
    """A path that is neither a string nor a `Path`."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.fixture
def video(tmp_path):
    return video_files.write_lossless_video(tmp_path / "video.mkv", COUNT)


@pytest.fixture(params=[str, Named])
def kind(request):
    return request.param


def test_a_video_is_restored_with_the_tracks_of_its_people(video, tmp_path, kind):
    restorer, tracks = video_fakes.restorer()[0], tmp_path / "tracks"
    find_people(kind(video), restorer.detector, video=EXACT, tracks_folder=kind(tracks))
    target = tmp_path / "out.mkv"
    result = restore_video(kind(video), kind(target), restorer, video=EXACT, tracks_folder=kind(tracks))
    assert [one.frames for one in result.tracks] == [COUNT] and len(video_files.read_frames(target)) == COUNT


def test_a_video_is_previewed(video, tmp_path, kind):
    restorer = video_fakes.restorer()[0]
    assert preview(kind(video), 2, restorer).shape[0] > 2 * video_fakes.SIZE[1]
    assert preview_clip(kind(video), kind(tmp_path / "piece.mkv"), 0.2, restorer, video=EXACT) > 0
    assert (tmp_path / "piece.mkv").stat().st_size > 0


def test_a_suffix_is_chosen(video, kind):
    assert output_suffix(kind(video)) == ".mkv"


def test_a_region_mask_is_named(tmp_path, kind):
    frames, restorer = list(video_fakes.frames(COUNT)), video_fakes.restorer()[0]
    black = np.zeros((*frames[0].shape[:2], 3), np.uint8)
    Image.fromarray(black).save(tmp_path / "mask.png")
    clip = video_files.write_video(tmp_path / "mask.mkv", COUNT, video_fakes.SIZE, "ffv1", pictures=[black] * COUNT)
    for mask in (kind(tmp_path / "mask.png"), kind(clip), MaskClip(kind(clip))):
        assert all(one.mask is None for one in restore_sequence(restorer, lambda: frames, region_mask=mask))


def test_a_url_is_named_as_it_was_given(video, tmp_path):
    restorer, url = video_fakes.restorer()[0], "https://example.org/a//b.mp4"
    with pytest.raises(InputError, match=f"^{url} is a URL"):
        restore_video(url, tmp_path / "out.mkv", restorer)
    with pytest.raises(OutputError, match=f"^{url} is a URL"):
        restore_video(video, url, restorer)
    with pytest.raises(InputError, match=f"^{url} is a URL"):
        restore_video(video, tmp_path / "out.mkv", restorer, region_mask=url)

"""Masks that say where a video may be restored: one for all frames, or one for each."""

import numpy as np
import pytest
import video_files
from PIL import Image
from video_fakes import SIZE, frames, restorer
from video_files import read_frames, use_ten_frame_segments, write_lossless_video

from gpen_core import InputError, RestoreOptions, VideoOptions, restore_sequence, restore_video
from gpen_core.video.preview import MARGIN, preview

EXACT = VideoOptions(codec="ffv1", temporal_smoothing=0)
COUNT, WIDTH, HEIGHT = 24, *SIZE


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Segments have ten frames."""
    use_ten_frame_segments(monkeypatch)
    return write_lossless_video(tmp_path / "film.mkv", COUNT)


def masks(count=COUNT, size=(WIDTH // 2, HEIGHT // 2)):
    """[count, h, w] uint8 of half the size: white moves from the left to the right, one column pair at a time."""
    width, height = size
    out = np.zeros((count, height, width), np.uint8)
    for n, mask in enumerate(out):
        mask[:, 40 + 2 * n : 50 + 2 * n] = 255
    return out


def rgb(array):
    return [np.repeat(one[..., None], 3, 2) for one in array]


def as_video(tmp_path, array, name="mask.mkv", codec="ffv1", **options):
    size = array.shape[2], array.shape[1]
    return video_files.write_video(tmp_path / name, len(array), size, codec, pictures=rgb(array), **options)


def as_folder(tmp_path, array):
    (tmp_path / "masks").mkdir()
    for n, one in enumerate(array):
        Image.fromarray(one).save(tmp_path / "masks" / f"{n}.png")
    return tmp_path / "masks"


def changed_columns(before, after):
    """Of each frame: the first and last column that changed visibly, in the rows of the face."""
    found = []
    for one, other in zip(before, after):
        columns = np.flatnonzero((np.abs(one.astype(int) - other)[80:110].max(axis=(0, 2))) > 24)
        found.append((columns[0], columns[-1]) if len(columns) else None)
    return found


def assert_masked(before, after, first=0):
    """What changed moves with the mask, which is as exact as chroma and the mask's resizing are."""
    for n, columns in enumerate(changed_columns(before, after), first):
        left, right = 80 + 4 * n, 100 + 4 * n
        assert columns is not None, n
        assert left - 3 <= columns[0] and columns[1] <= right + 2, (n, columns)


def white_paint(array):
    """White everywhere, and transparent where the mask is black."""
    return np.concatenate((np.full((*array.shape, 3), 255, np.uint8), array[..., None]), axis=3)


@pytest.mark.parametrize("kind", ["array", "video", "h264", "folder", "transparent folder"])
def test_a_mask_for_each_frame(film, tmp_path, kind):
    make = {
        "array": lambda: masks().astype(np.float32) / 255,
        "video": lambda: as_video(tmp_path, masks()),
        "h264": lambda: as_video(tmp_path, masks(), "mask.mp4", "libx264"),
        "folder": lambda: as_folder(tmp_path, masks()),
        "transparent folder": lambda: as_folder(tmp_path, white_paint(masks())),
    }
    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, region_mask=make[kind]())
    assert_masked(read_frames(film), read_frames(tmp_path / "out.mkv"))


def test_a_part_of_the_video_has_that_part_of_the_mask(film, tmp_path):
    part = VideoOptions(codec="ffv1", start=0.4, end=0.8)
    for mask in (as_video(tmp_path, masks()), as_folder(tmp_path, masks())):
        restore_video(film, tmp_path / "out.mkv", restorer()[0], None, part, region_mask=mask)
        assert_masked(read_frames(film)[10:20], read_frames(tmp_path / "out.mkv"), 10)


def test_masks_of_the_part_alone_are_used_too(film, tmp_path):
    part = VideoOptions(codec="ffv1", start=0.4, end=0.8)
    mask = as_video(tmp_path, masks()[10:20])
    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, part, region_mask=mask)
    assert_masked(read_frames(film)[10:20], read_frames(tmp_path / "out.mkv"), 10)
    mask = as_video(tmp_path, masks()[:16])
    with pytest.raises(InputError, match="has 6 frames in this part, but the video has 10"):
        restore_video(film, tmp_path / "out.mkv", restorer()[0], None, part, region_mask=mask)


def test_an_image_is_one_mask_for_all_frames(film, tmp_path):
    for name in ("mask.png", "mask.gif"):
        Image.fromarray(masks()[5]).save(tmp_path / name)
        restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, region_mask=tmp_path / name)
        columns = changed_columns(read_frames(film), read_frames(tmp_path / "out.mkv"))
        assert all(left >= 97 and right <= 122 for left, right in columns)


@pytest.mark.parametrize("name", ["mask.gif", "mask.png"])
def test_an_animation_is_a_mask_for_each_frame(film, tmp_path, name):
    images = [Image.fromarray(one) for one in masks()]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=40)
    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, region_mask=tmp_path / name)
    assert_masked(read_frames(film), read_frames(tmp_path / "out.mkv"))


@pytest.mark.parametrize("kind", ["array", "video", "folder"])
@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1, 100])
def test_another_number_of_masks_is_an_error_before_faces_are_restored(film, tmp_path, kind, count):
    given = masks(count)
    mask = {"video": as_video, "folder": as_folder}.get(kind, lambda folder, array: array)(tmp_path, given)
    runner, network = restorer()
    with pytest.raises(InputError, match=rf"mask .*has {count} frames, but the video has {COUNT}\. Give a mask for each"):
        restore_video(film, tmp_path / "out.mkv", runner, None, EXACT, region_mask=mask)
    assert network.faces == 0 and not (tmp_path / "out.mkv").exists()


def test_masks_of_two_sizes_and_what_is_no_mask(film, tmp_path):
    folder = as_folder(tmp_path, masks())
    Image.new("L", (30, 40)).save(folder / "7.png")
    with pytest.raises(InputError, match=r"7\.png is 30 x 40 px, but the first frame is"):
        restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, region_mask=folder)
    (tmp_path / "text.mp4").write_text("no mask" * 100)
    for name, why in (("text.mp4", "cannot be read as a video"), ("none.png", "cannot be read"), ("none", "cannot be read")):
        with pytest.raises(InputError, match=why):
            restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, region_mask=tmp_path / name)


def test_a_run_goes_on_only_with_the_same_masks(film, tmp_path):
    """Those of another run are not reused, although their name and number are the same."""
    mask, target = as_video(tmp_path, masks()), tmp_path / "out.mkv"
    runner, network = restorer()
    network.fails_after = 15
    with pytest.raises(RuntimeError):
        restore_video(film, target, runner, None, EXACT, region_mask=mask)
    network.fails_after = None
    restore_video(film, tmp_path / "other.mkv", runner, None, EXACT, region_mask=mask)
    as_video(tmp_path, 255 - masks())
    result = restore_video(film, target, runner, None, EXACT, region_mask=mask)
    assert result.segments[1] == 0
    columns = changed_columns(read_frames(tmp_path / "other.mkv"), read_frames(target))
    assert all(one is not None for one in columns)


def test_frames_in_memory():
    images = list(frames(COUNT))
    given = masks().astype(np.float32) / 255
    results = list(restore_sequence(restorer()[0], lambda: iter(images), region_mask=given))
    assert_masked(images, [np.rint(one.image.crop_rgb(one.image.full_region) * 255).astype(np.uint8) for one in results])
    with pytest.raises(InputError, match=f"The region mask has 23 frames, but the video has {COUNT}"):
        list(restore_sequence(restorer()[0], lambda: iter(images), region_mask=given[1:]))


def test_a_preview_shows_each_frame_with_its_mask(film, tmp_path):
    for mask in (as_video(tmp_path, masks()), masks()):
        sheet = preview(film, 2, restorer()[0], RestoreOptions(), region_mask=mask)
        rows = [sheet[top + sheet.shape[0] // 2 - HEIGHT :][:HEIGHT] for top in (0, sheet.shape[0] // 2)]
        for number, row in zip((6, 18), rows):
            assert_masked([row[:, :WIDTH]], [row[:, WIDTH + MARGIN :]], number)

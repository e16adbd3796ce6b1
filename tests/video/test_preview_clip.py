"""A piece of a video, restored, beside the original."""

import numpy as np
import pytest
import video_files
from PIL import Image
from video_fakes import SIZE, frames, restorer
from video_files import read_frames

from gpen_core import InputError, Interrupted, RestoreOptions, VideoOptions
from gpen_core.video.preview_clip import preview_clip
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

COUNT = 40  # at 25 a second
WIDTH, HEIGHT = SIZE
LABELS = HEIGHT // 8  # rows


@pytest.fixture
def film(tmp_path):
    return video_files.write_video(tmp_path / "film.mkv", COUNT, SIZE, "ffv1", pictures=list(frames(COUNT)), sound="aac")


def halves(path, width=WIDTH):
    for one in read_frames(path):
        assert one.shape[1] == 2 * width
        yield one[:, :width], one[:, width:]


@pytest.mark.parametrize(
    ("video", "first"), [({}, 15), ({"start": 0.4}, 10), ({"end": 0.4}, 0), ({"start": 0.8, "end": 9.0}, 20)]
)
def test_the_middle_or_the_part_asked_for_with_the_original_to_the_left(film, tmp_path, video, first):
    target = tmp_path / "new" / "out.mkv"
    count = preview_clip(film, target, 0.4, restorer()[0], None, VideoOptions(codec="ffv1", **video))
    known, shown = read_frames(film), list(halves(target))
    assert count == 10 == len(shown)
    for n, (before, after) in enumerate(shown):
        assert np.array_equal(before[LABELS:, :-4], known[first + n][LABELS:, :-4])  # the halves share chroma in RGB
        assert np.abs(255.0 - before - after)[88:104, 112:128].mean() < 5  # inverted
        assert np.array_equal(before[LABELS:, 4:12], after[LABELS:, 4:12])
        for half in (before, after):
            corner = half[:LABELS, : WIDTH // 3]
            assert corner.max() > 235 and (corner < 20).mean() > 0.3
    assert np.abs(shown[0][0][:LABELS].astype(int) - shown[0][1][:LABELS]).max() > 100  # the words differ
    assert 0 < len(video_files.digests(target)[1]) < len(video_files.digests(film)[1])  # the sound of the piece
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["film.mkv", "new", "out.mkv"]


def test_a_video_shorter_than_the_piece_is_shown_whole(film, tmp_path):
    assert preview_clip(film, tmp_path / "out.mp4", 60.0, restorer()[0]) == COUNT
    assert probe(tmp_path / "out.mp4").size == (2 * WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("faces", "video", "is_noted"),
    [("0", {}, True), ("all", {}, False), ("0", {"start": 0.8}, False), ("0", {"end": 0.4}, False)],
)
def test_a_note_says_that_face_numbers_count_only_the_piece(film, tmp_path, faces, video, is_noted):
    notes, options = [], RestoreOptions(faces=faces)
    preview_clip(film, tmp_path / "out.mkv", 0.4, restorer()[0], options, VideoOptions(**video), on_note=notes.append)
    start = "The numbers of faces count only the people from 0.60 s on. In the whole run, they may differ."
    assert notes == [start] * is_noted


@pytest.mark.parametrize(("start", "first"), [(None, 20), (0.9, 23)])
def test_a_piece_begins_in_the_first_range(film, tmp_path, start, first):
    video = VideoOptions(codec="ffv1", start=start, ranges=((0.8, 1.0), (1.4, 1.5)))
    assert preview_clip(film, tmp_path / "out.mkv", 0.4, restorer()[0], None, video) == 10
    known = read_frames(film)
    for n, (before, after) in enumerate(halves(tmp_path / "out.mkv"), first):
        assert np.array_equal(before[LABELS:, :-4], known[n][LABELS:, :-4])
        assert (before[LABELS:, 4:-4] != after[LABELS:, 4:-4]).any() == (n < 25)


@pytest.mark.parametrize(("pixels", "width"), [("yuv420p10le", 94), ("yuv444p", 95), ("yuv422p", 94), ("gray", 95)])
def test_both_halves_are_as_decoded_in_odd_sizes_and_other_formats(tmp_path, pixels, width):
    film = video_files.write_video(tmp_path / "odd.mkv", 4, (95, 63), "ffv1", pixels)
    preview_clip(film, tmp_path / "out.mkv", 1.0, restorer(faces=())[0], None, VideoOptions(codec="ffv1"))
    whole, shown = (list(FrameReader(probe(path)).frames()) for path in (film, tmp_path / "out.mkv"))
    assert len(shown) == 4 and shown[0].native.format == pixels
    for known, both in zip(whole, shown):
        for one, other in zip(known.native.arrays, both.native.arrays):
            half = other.shape[1] // 2
            assert half in (width, width // 2)
            assert all(np.array_equal(one[32:, :half], part[32:]) for part in (other[:, :half], other[:, half:]))


def test_a_folder_of_images(tmp_path):
    (tmp_path / "in").mkdir()
    for n, picture in enumerate(frames(5)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{n}.png")
    assert preview_clip(tmp_path / "in", tmp_path / "out.mp4", 0.12, restorer()[0]) == 3
    assert len(list(halves(tmp_path / "out.mp4"))) == 3


def test_nothing_is_left_of_a_preview_that_ends_early(film, tmp_path):
    def stop(event):
        if event.stage == "restore" and event.done == 3:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        preview_clip(film, tmp_path / "out.mkv", 1.0, restorer()[0], progress=stop)
    with pytest.raises(InputError, match="no frame after the start"):
        preview_clip(film, tmp_path / "out.mkv", 1.0, restorer()[0], None, VideoOptions(start=50))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]

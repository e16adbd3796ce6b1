"""Frames before and after, spread over a video."""

import numpy as np
import pytest
import video_files
from helpers import FakeDetector
from video_fakes import SIZE, frames, restorer

from gpen_core import InputError, Interrupted, ProgressEvent, RestoreOptions, VideoOptions
from gpen_core.video import preview as previews
from gpen_core.video.preview import FONT_SIZE, MARGIN, preview
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

COUNT, LABEL = 20, FONT_SIZE + 2 * MARGIN
WIDTH, HEIGHT = SIZE


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return video_files.write_video(path, COUNT, SIZE, "ffv1", pictures=list(frames(COUNT)))


def rows(sheet, height=HEIGHT, width=WIDTH):
    """Of each frame: (before, after)."""
    assert sheet.dtype == np.uint8 and sheet.shape[1:] == (2 * width + MARGIN, 3)
    assert sheet.shape[0] % (LABEL + height) == 0
    parts = [sheet[top + LABEL :][:height] for top in range(0, sheet.shape[0], LABEL + height)]
    return [(part[:, :width], part[:, width + MARGIN :]) for part in parts]


def test_a_row_for_each_frame_as_it_is_and_restored(film):
    told = []
    sheet = preview(film, 4, restorer()[0], progress=told.append)
    known = [frame.image.pixels for frame in FrameReader(probe(film)).frames()]
    both = rows(sheet)
    assert told == [ProgressEvent("restore", n, 4, "frame", "Restoring frames") for n in range(1, 5)]
    for n, (before, after) in zip((3, 8, 13, 18), both):  # the first after 1/8, 3/8 ... of 20 frames
        assert np.array_equal(before, known[n])
        assert np.array_equal(before[:8], after[:8])
        assert np.abs(255.0 - before - after)[88:104, 112:128].mean() < 5  # inverted
    assert (sheet[:LABEL] < 128).any() and (sheet[LABEL:, WIDTH : WIDTH + MARGIN][:HEIGHT] == 255).all()


def test_frames_between_rare_key_frames_of_a_transport_stream(tmp_path):
    rare = {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}
    path = video_files.write_video(tmp_path / "film.ts", 120, SIZE, options=rare)
    known = [frame.image.pixels for frame in FrameReader(probe(path)).frames()]
    both = rows(preview(path, 2, restorer()[0]))
    assert all(np.array_equal(before, known[n]) for n, (before, _) in zip((30, 90), both))


def test_one_frame_is_the_middle_of_the_part_asked_for(film):
    ((before, _),) = rows(preview(film, 1, restorer()[0], None, VideoOptions(start=0.4, end=0.6)))
    assert np.array_equal(before, [frame.image.pixels for frame in FrameReader(probe(film)).frames()][13])


def test_frames_of_ranges_are_chosen_evenly(film):
    video = VideoOptions(ranges=((0.08, 0.16), (0.4, 0.48), (0.6, 60)))  # the last has 0.2 s
    both = rows(preview(film, 9, restorer()[0], None, video))
    known = [frame.image.pixels for frame in FrameReader(probe(film)).frames()]
    numbers = [next(n for n, frame in enumerate(known) if np.array_equal(frame, before)) for before, _ in both]
    assert numbers == [3, 4, 11, 12, 16, 17, 18, 19, 19]


def test_an_end_behind_the_videos_shows_what_the_video_has(film):
    whole, beyond = (preview(film, 3, restorer()[0], None, VideoOptions(end=end)) for end in (None, 100.0))
    assert np.array_equal(whole, beyond)


def test_more_rows_than_frames_show_some_twice(film):
    both = rows(preview(film, 2 * COUNT, restorer()[0], RestoreOptions(strength=0)))
    assert len(both) == 2 * COUNT and all(map(np.array_equal, *zip(*both)))


def test_the_only_frame_of_a_video_is_shown(tmp_path):
    path = video_files.write_video(tmp_path / "film.mkv", 1, SIZE, "ffv1", pictures=list(frames(1)))
    known = [frame.image.pixels for frame in FrameReader(probe(path)).frames()]
    both = rows(preview(path, 2, restorer()[0]))
    assert len(both) == 2 and all(np.array_equal(before, known[0]) for before, _ in both)


def test_frames_are_restored_one_by_one_as_they_are_read(film, monkeypatch):
    """None waits in memory."""
    order = []

    class Noting(FrameReader):
        def frames(self):
            for frame in super().frames():
                order.append("read")
                yield frame

    monkeypatch.setattr(previews, "FrameReader", Noting)
    preview(film, 3, restorer()[0], progress=lambda event: order.append("restored"))
    assert order == ["read", "restored"] * 3


def test_large_frames_are_reduced(film, monkeypatch):
    monkeypatch.setattr(previews, "MAX_WIDTH", 120)
    assert len(rows(preview(film, 2, restorer()[0]), 96, 120)) == 2


def test_a_video_of_16_bits_and_a_folder(tmp_path):
    from PIL import Image

    pictures = list(frames(3))
    deep = video_files.write_video(tmp_path / "deep.mkv", 3, SIZE, "ffv1", "yuv420p10le", pictures=pictures)
    (tmp_path / "folder").mkdir()
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{n}.png")
    for source, off in ((deep, 8), (tmp_path / "folder", 0)):
        ((before, _),) = rows(preview(source, 1, restorer()[0]))
        assert np.abs(before.astype(float) - pictures[2]).mean() <= off


def test_a_mask_limits_what_is_restored(film):
    region_mask = np.zeros((4, 4), np.float32)
    region_mask[:, :2] = 1
    ((before, after),) = rows(preview(film, 1, restorer()[0], region_mask=region_mask))
    assert np.array_equal(before[:, 170:], after[:, 170:]) and not np.array_equal(before, after)


def test_without_faces_both_are_the_same(film):
    runner, network = restorer(faces=())
    ((before, after),) = rows(preview(film, 1, runner))
    assert np.array_equal(before, after) and network.faces == 0 and isinstance(runner.detector, FakeDetector)


def test_what_has_no_such_frame_or_no_length(film, tmp_path):
    with pytest.raises(InputError, match="no frame after"):
        preview(film, 2, restorer()[0], None, VideoOptions(start=50, end=60))
    raw = video_files.write_video(tmp_path / "raw.h264", 10, SIZE, container="h264")
    if probe(raw).duration is None:
        with pytest.raises(InputError, match=r"The length of .* is unknown\. Set an end"):
            preview(raw, 2, restorer()[0])
    assert len(rows(preview(raw, 2, restorer()[0], None, VideoOptions(end=0.2)))) == 2


def test_it_can_be_stopped(film):
    def stop(event):
        if event.done == 2:
            raise Interrupted("enough")

    runner, network = restorer()
    with pytest.raises(Interrupted):
        preview(film, 10, runner, progress=stop)
    assert network.faces == 2

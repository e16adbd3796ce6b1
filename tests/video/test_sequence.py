"""Images in memory as a video: what `restore_video` does with the same frames in a file."""

import gc
import weakref
from types import SimpleNamespace

import helpers
import numpy as np
import pytest
import torch
import video_files
from compositor_backends import OPENCV_ROUNDS
from PIL import Image
from video_fakes import FACE, SIZE, FakeRunner, frames, invert, restorer

from gpen_core import (
    FaceRestorer,
    InputError,
    Interrupted,
    OptionsError,
    OutOfMemory,
    ProgressEvent,
    RestoreOptions,
    VideoOptions,
    restore_video,
)
from gpen_core.network import RELEASED
from gpen_core.pipeline.gpen_runner import SizeSelector
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.sequence import restore_sequence

COUNT, RATE = 16, 25.0


def run(pictures, runner=None, options=None, video=None, **more):
    pictures = list(pictures)
    return list(restore_sequence(runner or restorer()[0], lambda: pictures, options, video, RATE, **more))


def pixels(results):
    return [np.array(one.image.crop_rgb(one.image.full_region)) for one in results]


def paths(pictures, folder):
    folder.mkdir()
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.slow
def test_it_gives_what_the_same_frames_in_a_folder_give(tmp_path, smoothing):
    pictures = list(frames(COUNT))
    video = VideoOptions(temporal_smoothing=smoothing)
    restore_video(paths(pictures, tmp_path / "in"), tmp_path / "out", restorer()[0], None, video)
    written = [frame.image.pixels / 255 for frame in FrameReader(probe(tmp_path / "out")).frames()]
    off = [np.abs(one - other).max() for one, other in zip(pixels(run(pictures, video=video)), written)]
    assert len(off) == COUNT and max(off) <= 1 / 255


@pytest.mark.slow
def test_it_gives_what_the_same_frames_in_a_lossless_video_give(tmp_path):
    film = video_files.write_video(tmp_path / "in.mkv", COUNT, SIZE, "ffv1", "bgr0", pictures=list(frames(COUNT)))
    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))
    known = [frame.image.pixels for frame in FrameReader(probe(film)).frames()]
    assert all(map(np.array_equal, known, frames(COUNT)))  # RGB, nothing lost
    written = [frame.image.pixels / 255 for frame in FrameReader(probe(tmp_path / "out.mkv")).frames()]
    assert max(np.abs(one - other).max() for one, other in zip(pixels(run(known)), written)) <= 1 / 255


def test_the_noise_of_the_restored_face_is_evened_out():
    """Smoothing of 1 changes less from frame to frame than 0, by the middle of the face; outside both are the input."""
    alone, smoothed = (pixels(run(frames(COUNT), video=VideoOptions(temporal_smoothing=amount))) for amount in (0.0, 1.0))
    middle = (slice(80, 112), slice(104, 136))
    before, after = (np.std([one[middle] for one in some[4:-4]], axis=0).mean() for some in (alone, smoothed))
    assert after < 0.7 * before
    given = [one / 255 for one in frames(COUNT)]
    assert all(np.abs(one[:8] - other[:8]).max() < 1e-6 for one, other in zip(smoothed, given))


def test_faces_masks_and_images_of_each_frame():
    results = run(frames(4))
    for one, given in zip(results, frames(4)):
        (face,) = one.faces
        assert face.restored and face.reason is None and face.network == 256
        assert np.abs(np.array(face.box) - FACE.box).max() < 2
        assert one.mask.shape == SIZE[::-1] and one.mask[96, 120] == 1 and one.mask[0, 0] == 0
        inside = slice(92, 100), slice(116, 124)
        assert np.abs(1 - given[inside] / 255 - one.image.crop_rgb(one.image.full_region)[inside]).mean() < 0.06


def test_what_is_left_alone_says_why_and_the_image_is_its_own():
    for options, video, reason in (
        (RestoreOptions(strength=0), VideoOptions(), "at zero strength"),
        (RestoreOptions(min_face_size=200), VideoOptions(), "smaller than the minimum"),
        (RestoreOptions(faces=(3,)), VideoOptions(), "not asked for"),
        (None, VideoOptions(min_duration=5), "visible for less than the minimum"),
    ):
        runner, network = restorer()
        for one, given in zip(run(frames(3), runner, options, video), frames(3)):
            assert reason in one.faces[0].reason and not one.faces[0].restored
            assert one.mask is None and np.array_equal(one.image.pixels, given)
        assert network.faces == 0


def test_nothing_is_filtered_across_a_cut():
    """Each shot is restored as it is alone, and would not be if the other's frames came in."""
    first = list(frames(6))
    second = [np.ascontiguousarray(one[::-1, ::-1]) for one in frames(6, seed=1)]
    both = pixels(run([*first, *second], video=VideoOptions(temporal_smoothing=1)))
    alone = [
        *pixels(run(first, video=VideoOptions(temporal_smoothing=1))),
        *pixels(run(second, video=VideoOptions(temporal_smoothing=1))),
    ]
    assert max(np.abs(one - other).max() for one, other in zip(both, alone)) < 1e-6


def test_arrays_of_floats_and_pil_images_are_taken():
    """Floats differ from 8 bits by rounding; where OpenCV rounds places to 1/32 px, a place may be rounded another way."""
    plain, most = pixels(run(frames(3))), (2 if OPENCV_ROUNDS else 1) / 255
    for given in ([one.astype(np.float32) / 255 for one in frames(3)], map(Image.fromarray, frames(3))):
        assert max(np.abs(one - other).max() for one, other in zip(pixels(run(given)), plain)) < most


def test_tracks_of_several_sizes_go_on_where_memory_holds_one_network():
    """The model auto drops one network to load the other's; whatever still refers to it would keep its memory."""
    alive, asked = weakref.WeakSet(), []

    def load(size, progress):
        if len(alive):
            raise OutOfMemory("full")
        network = FakeRunner(invert)
        network.network = SimpleNamespace(size=size, dtype=torch.float32, config=RELEASED[256])
        alive.add(network)
        asked.append(size)
        return network

    faces = helpers.make_face((60, 100), 60), helpers.make_face((170, 90), 150)
    networks = SizeSelector((256, 512), torch.float32, load)
    runner = FaceRestorer(ModelSet(networks, helpers.FakeDetector(faces), torch.device("cpu")))
    gc.disable()  # memory must be free at once
    try:
        results = run(frames(2), runner)
    finally:
        gc.enable()
    assert [sorted(face.network for face in one.faces) for one in results] == [[256, 512]] * 2
    assert {*asked} == {256, 512} and len(alive) == 1


def test_a_mask_limits_what_is_restored():
    region_mask = np.zeros((4, 4), np.float32)
    region_mask[:, :2] = 1
    for one, given in zip(run(frames(3), region_mask=region_mask), frames(3)):
        result = np.array(one.image.crop_rgb(one.image.full_region))
        assert np.abs(result[:, 170:] - given[:, 170:] / 255).max() < 1e-6 and one.mask[:, :100].max() == 1


def test_images_are_not_enlarged():
    with pytest.raises(OptionsError, match="cannot be upscaled here"):
        run(frames(2), options=RestoreOptions(upscale=2))


def test_images_are_asked_for_twice_and_results_come_as_they_are_made():
    asked, told = [], []

    def pictures():
        asked.append(0)
        for one in frames(COUNT):
            asked[-1] += 1
            yield one

    results = restore_sequence(restorer()[0], pictures, rate=RATE, progress=told.append)
    next(results)
    assert asked[0] == COUNT and asked[1] < COUNT  # the second time not all of them yet
    assert len(list(results)) == COUNT - 1 and asked == [COUNT, COUNT]
    analyzed = dict.fromkeys(event for event in told if event.stage == "analyze")  # a waiting thread sends them again
    assert [(event.done, event.total, event.unit) for event in analyzed] == [(n + 1, None, "frame") for n in range(COUNT)]
    assert told[-1] == ProgressEvent("restore", COUNT, COUNT, "frame", "Restoring frames (pass 2 of 2)")


def test_it_stops_when_it_is_told_to_and_when_nobody_takes_more():
    import threading

    def stop(event):
        if event.stage == "restore" and event.done == 3:
            raise Interrupted("enough")

    before = threading.active_count()
    with pytest.raises(Interrupted):
        run(frames(COUNT), progress=stop)
    results = restore_sequence(restorer(invert)[0], lambda: frames(COUNT), rate=RATE)
    next(results)
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (lambda pictures: pictures[:6], "gave 6 instead of 16 images"),
        (lambda pictures: [], "gave 0 instead of 16 images"),
        (lambda pictures: [*pictures, pictures[0]], "gave more than 16 images"),
        (lambda pictures: [one[:100] for one in pictures], "Image 0 is 240x100, but it was 240x192"),
    ],
)
def test_a_later_call_must_give_the_same_images(later, message):
    pictures = list(frames(COUNT))
    calls = iter((pictures, later(pictures)))
    with pytest.raises(InputError, match=message):
        list(restore_sequence(restorer()[0], lambda: next(calls), rate=RATE))


def test_images_may_be_a_list_or_an_array():
    pictures = list(frames(4))
    expected = [one.image.pixels for one in run(pictures)]
    for images in (pictures, np.stack(pictures)):
        results = restore_sequence(restorer()[0], images, rate=RATE)
        assert all(np.array_equal(one.image.pixels, other) for one, other in zip(results, expected, strict=True))


@pytest.mark.parametrize("images", [frames(4), 25, None])
def test_images_that_can_be_read_only_once_or_not_at_all_are_refused(images):
    with pytest.raises(InputError, match=r"images is of type .*; expected a list, an array, or a function"):
        list(restore_sequence(restorer()[0], images))


@pytest.mark.parametrize("rate", [0, -25, float("nan"), float("inf"), "25", None])
def test_the_rate_must_be_a_number_above_0(rate):
    with pytest.raises(OptionsError, match="rate is"):
        list(restore_sequence(restorer()[0], lambda: list(frames(2)), rate=rate))

"""Whole videos restored on the network's device, there on the CPU, beside OpenCV's way: within one level of 255."""

import logging
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
import synthetic_video
import torch
import video_files
from compositor_backends import CUDA, CUDA_OOM, DEVICES, needs_exact_opencv, raise_on_calls, use_torch_compositor
from helpers import make_face
from video_fakes import SIZE, frame_folder, restorer

from gpen_core import RestoreOptions, VideoOptions, restore_sequence, restore_video
from gpen_core.errors import OutOfMemory
from gpen_core.faces.mask import FaceParser
from gpen_core.network.memory_estimate import bytes_per_face
from gpen_core.pipeline import device_check
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.pipeline.torch_canvas import TorchCanvas
from gpen_core.pipeline.torch_image import DeviceImage
from gpen_core.pipeline.torch_upload import ASYNC_VARIABLE
from gpen_core.tools.demo.images import astronaut
from gpen_core.video import torch_temporal_filter
from gpen_core.video.frame_restorer import FrameRestorer
from gpen_core.video.planes import Planes
from gpen_core.video.preview_clip import preview_clip
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.torch_frame_restorer import FILTER, TorchFrameRestorer, frame_restorer_type

EXACT = VideoOptions(codec="ffv1", temporal_smoothing=0)
STEADY = replace(EXACT, temporal_smoothing=1)
ONE = (make_face((120.0, 96.0), 70.0, tilt=8),)
PAIR = (make_face((95.0, 90.0), 60.0, tilt=-9), make_face((150.0, 104.0), 66.0, tilt=7))
LARGE = (make_face((120.0, 96.0), 150.0),)
COUNT = 10


def sharpen(crop):
    return crop + 0.8 * (crop - cv2.GaussianBlur(crop, (0, 0), 1.5)) + np.float32([0.05, 0, -0.05])


def pictures(count=COUNT, noise=3.0):
    """A hand-held face, and a cut to another part of the photograph after seven frames."""
    shots = ((7, (224, 126)), (count - 7, (300, 260)))
    for seed, (length, middle) in enumerate(shots):
        shot = synthetic_video.render_video(astronaut(), "shake", length, SIZE, noise, seed, middle=middle, width=240)
        yield from (frame for frame, _ in shot)


@pytest.fixture
def film(tmp_path):
    def write(pixels="yuv420p", size=SIZE, codec="ffv1", **more):
        some = [np.ascontiguousarray(one[: size[1], : size[0]]) for one in pictures()]
        return video_files.write_video(tmp_path / "film.mkv", COUNT, size, codec, pixels, pictures=some, **more)

    return write


def planes(path):
    """[N] tuples of arrays, and the largest value."""
    info = probe(path)
    found = [frame.native for frame in FrameReader(info).frames()]
    return [one.arrays for one in found], 2 ** found[0].layout.bits - 1


def both(monkeypatch, source, folder, options=None, video=EXACT, faces=ONE, change=sharpen, suffix=".mkv", **more):
    """The results and the paths, of OpenCV and of the device."""
    found = []
    for name in ("opencv", "torch"):
        use_torch_compositor(monkeypatch, name == "torch")
        target = folder / f"{name}{suffix}"
        found.append((restore_video(source, target, restorer(change, faces)[0], options, video, **more), target))
    return found


def assert_same(source, found):
    """Within a level of 255, with something restored. Returns how many frames changed."""
    (expected, one), (result, other) = found
    before, peak = planes(source)
    (opencv, _), (device, _) = planes(one), planes(other)
    assert len(before) == len(opencv) == len(device) == COUNT
    for first, second in zip(opencv, device):
        for own, ours in zip(first, second):
            assert own.dtype == ours.dtype
            assert np.abs(own.astype(float) - ours).max() <= max(1, peak / 255)
    assert result.restored == expected.restored and len(result.tracks) == len(expected.tracks)
    for one, other in zip(result.tracks, expected.tracks):
        assert (one.reason, one.network, one.frames) == (other.reason, other.network, other.frames)
        assert one.flicker_after.rms == pytest.approx(other.flicker_after.rms, rel=0.02, nan_ok=True)
    changed = sum(any((a != b).any() for a, b in zip(one, other)) for one, other in zip(before, device))
    assert changed > 0
    return changed


@needs_exact_opencv
@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuv422p10le", "yuv444p", "bgr0", "gbrp12le", "gray", "yuva420p", "yuv420p16le", "bgra"]
)
def test_every_kind_of_planes(monkeypatch, film, tmp_path, pixels):
    source = film(pixels)
    assert assert_same(source, both(monkeypatch, source, tmp_path)) == COUNT


@needs_exact_opencv
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_video_with_tags(monkeypatch, film, tmp_path, codec):
    """Of where its chroma is (H.264) and of its range (MJPEG)."""
    source = film({"mjpeg": "yuvj420p"}.get(codec, "yuv420p"), codec=codec)
    assert assert_same(source, both(monkeypatch, source, tmp_path)) == COUNT


def test_the_planes_come_back_and_no_image(monkeypatch, film, tmp_path):
    source, closed = film(), []
    monkeypatch.setattr(TorchCanvas, "close", lambda canvas: closed.append(canvas))
    monkeypatch.setattr(Planes, "apply_difference", None)
    use_torch_compositor(monkeypatch)
    result = restore_video(source, tmp_path / "out.mkv", restorer(sharpen, ONE)[0], None, EXACT)
    assert all(result.restored) and not closed


@needs_exact_opencv
@pytest.mark.parametrize("faces", [ONE, PAIR, PAIR[::-1], LARGE, (make_face((4.0, 180.0), 60.0, tilt=30),)])
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_faces_wherever_they_are(monkeypatch, film, tmp_path, faces, smoothing):
    source = film()
    found = both(monkeypatch, source, tmp_path, video=replace(EXACT, temporal_smoothing=smoothing), faces=faces)
    assert_same(source, found)


@needs_exact_opencv
def test_odd_sizes(monkeypatch, film, tmp_path):
    source = film(size=(239, 191))
    assert_same(source, both(monkeypatch, source, tmp_path, faces=(make_face((200.0, 150.0), 90.0),)))


@needs_exact_opencv
def test_a_video_that_is_turned(monkeypatch, film, tmp_path):
    source = film("yuv422p", rotation=(90,)) if hasattr(video_files.av.VideoStream, "set_display_rotation") else film()
    assert_same(source, both(monkeypatch, source, tmp_path, faces=(make_face((96.0, 120.0), 70.0),)))


@needs_exact_opencv
@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.5},
        {"color": "match"},
        {"color": "none", "template": "ffhq"},
    ],
    ids=str,
)
def test_options(monkeypatch, film, tmp_path, options):
    source = film()
    assert_same(source, both(monkeypatch, source, tmp_path, RestoreOptions(**options), STEADY))


@pytest.mark.parametrize(
    "option", [{"grain": 0.5}, {"preserve": "occluders"}, {"mask_expand": -0.2}, {"fidelity": 0.5}], ids=str
)
def test_what_is_not_done_there_goes_the_other_way_and_comes_out_the_same(monkeypatch, film, tmp_path, option):
    monkeypatch.setattr(TorchFrameRestorer, "run", None)
    found = both(monkeypatch, film(), tmp_path, RestoreOptions(**option), replace(EXACT, end=0.12))
    (one, _), (other, _) = (planes(path) for _, path in found)
    assert all(np.array_equal(a, b) for first, second in zip(one, other) for a, b in zip(first, second))


@needs_exact_opencv
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_masks_and_ranges(monkeypatch, film, tmp_path, smoothing):
    source, region_mask = film(), np.zeros(SIZE[::-1], np.float32)
    region_mask[:, :130] = np.linspace(0.2, 1, 130, dtype=np.float32)
    video = replace(EXACT, temporal_smoothing=smoothing, ranges=((0.08, 0.2),))
    found = both(monkeypatch, source, tmp_path, video=video, region_mask=region_mask)
    assert 0 < assert_same(source, found) < COUNT
    before, after = planes(source)[0], planes(found[1][1])[0]
    assert all(np.array_equal(one[0][:, 130:], other[0][:, 130:]) for one, other in zip(before, after))


class Disc(torch.nn.Module):
    """Stands in for ParseNet: skin inside a circle."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        inside = np.hypot(*(np.mgrid[:512, :512] - 250)) < 150
        logits = torch.zeros(len(x), 19, 512, 512)
        logits[:, 1] = torch.from_numpy(np.where(inside, 1.0, -1.0))
        return logits.to(x), None


@needs_exact_opencv
def test_a_parsed_mask(monkeypatch, film, tmp_path):
    source, found = film(), []
    for is_wanted in (False, True):
        use_torch_compositor(monkeypatch, is_wanted)
        runner, target = restorer(sharpen, ONE)[0], tmp_path / f"{is_wanted}.mkv"
        models = ModelSet([runner.models.runners[0]], runner.detector, runner.device, lambda progress: FaceParser(Disc()))
        options = RestoreOptions(mask_type="parse")
        found.append((restore_video(source, target, FaceRestorer(models), options, STEADY), target))
    assert assert_same(source, found) == COUNT
    luma, after = planes(source)[0][0][0], planes(found[1][1])[0][0][0]
    assert (
        np.array_equal(luma[96:100, 60:70], after[96:100, 60:70]) and (luma[90:100, 115:125] != after[90:100, 115:125]).any()
    )


@needs_exact_opencv
def test_a_gray_face_gets_no_colors(monkeypatch, tmp_path):
    gray = [np.repeat(one.mean(2, keepdims=True), 3, 2).astype(np.uint8) for one in pictures()]
    source = video_files.write_video(tmp_path / "film.mkv", COUNT, SIZE, "ffv1", "bgr0", pictures=gray)
    found = both(monkeypatch, source, tmp_path, change=lambda crop: crop + np.float32([0.3, 0, 0]))
    assert_same(source, found)
    assert max(np.ptp(np.stack(one).astype(int), axis=0).max() for one in planes(found[1][1])[0]) <= 2


@needs_exact_opencv
def test_images_of_a_folder_come_back(monkeypatch, tmp_path):
    source = frame_folder(tmp_path / "in", pictures())
    found = both(monkeypatch, source, tmp_path, video=VideoOptions(temporal_smoothing=1, fps=25), suffix="")
    for one, other, given in zip(*(sorted(path.iterdir()) for path in (found[0][1], found[1][1], source))):
        opencv, device, before = (cv2.imread(str(path)).astype(int) for path in (one, other, given))
        assert np.abs(opencv - device).max() <= 1 and (device != before).any() and np.array_equal(device[:8], before[:8])


@needs_exact_opencv
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "gray"])
def test_images_in_memory(monkeypatch, kind):
    images = [one / np.float32(255) for one in pictures()]
    if kind.startswith("uint"):
        images = [np.rint(one * np.iinfo(kind).max).astype(kind) for one in images]
    if kind == "gray":
        images = [np.rint(one.mean(2) * 255).astype(np.uint8) for one in images]
    peak = 1 if kind == "float32" else np.iinfo(images[0].dtype).max
    found = []
    for is_wanted in (False, True):
        use_torch_compositor(monkeypatch, is_wanted)
        runner = restorer(sharpen, ONE)[0]
        found.append(list(restore_sequence(runner, lambda: images, None, VideoOptions(temporal_smoothing=1))))
    for one, other, before in zip(*found, images):
        pixels = other.image.to_input_type()
        assert pixels.dtype == before.dtype and pixels.shape == before.shape and (pixels != before).any()
        assert np.abs(one.image.to_input_type().astype(float) - pixels).max() <= 1.001 * peak / 255
        assert np.abs(one.mask - other.mask).max() < 1 / 255
        assert [face.restored for face in one.faces] == [face.restored for face in other.faces] == [True]


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_filters_right_is_used(monkeypatch, device):
    use_torch_compositor(monkeypatch)
    assert device_check.find_problem(FILTER, torch.device(device)) is None
    assert frame_restorer_type(restorer(device=device)[0], RestoreOptions()) is TorchFrameRestorer


def test_a_device_that_filters_wrong_is_not_used(monkeypatch, caplog):
    use_torch_compositor(monkeypatch)
    wrong = replace(FILTER, expected=lambda: FILTER.run(torch.device("cpu")) + 0.01)
    monkeypatch.setattr("gpen_core.video.torch_frame_restorer.FILTER", wrong)
    assert frame_restorer_type(restorer()[0], RestoreOptions()) is FrameRestorer
    assert "Using the CPU instead of cpu to filter" in caplog.text


@pytest.mark.parametrize("is_wanted", [False, True])
def test_frames_that_wait_for_the_filter_hold_no_crops(monkeypatch, is_wanted):
    """Only those between the network and the filter do: one in each, two between them, and what is let go last."""
    use_torch_compositor(monkeypatch, is_wanted)
    runner, network = restorer(sharpen, LARGE)
    restoring, seen, alive = network.restore, [], []

    def restore(crops, *given):
        made = [one.clone() if is_wanted else one.copy() for one in restoring(crops, *given)]
        seen.extend(map(weakref.ref, made))
        alive.append(sum(one() is not None for one in seen))
        return made

    network.restore = restore
    images = list(pictures(16))
    options, one_face = RestoreOptions(color="none"), bytes_per_face(network.network.config, torch.float32)
    some = restore_sequence(runner, lambda: images, options, VideoOptions(temporal_smoothing=1), max_memory=one_face)
    assert len(list(some)) == len(alive) == 16 and max(alive) <= 6


@needs_exact_opencv
def test_a_preview_clip(monkeypatch, film, tmp_path):
    source, found = film("bgr0"), []
    for is_wanted in (False, True):
        use_torch_compositor(monkeypatch, is_wanted)
        target = tmp_path / f"{is_wanted}.mkv"
        preview_clip(source, target, 0.2, restorer(sharpen, ONE)[0], None, EXACT)
        found.append(planes(target)[0])
    for one, other in zip(*found):
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(one, other)) <= 1


@needs_exact_opencv
@pytest.mark.parametrize("what", [(DeviceImage, "__init__"), (TorchCanvas, "__init__")], ids=lambda what: what[0].__name__)
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_frames_that_do_not_fit_are_pasted_by_the_cpu(monkeypatch, film, tmp_path, what, smoothing, caplog):
    """From the fourth on, with one warning."""
    source, calls = film(), []
    raise_on_calls(CUDA_OOM, what, monkeypatch, range(3, 99))
    failing = getattr(*what)
    monkeypatch.setattr(*what, lambda *args: calls.append(args) or failing(*args))
    with caplog.at_level(logging.WARNING):
        found = both(monkeypatch, source, tmp_path, video=replace(EXACT, temporal_smoothing=smoothing))
    assert assert_same(source, found) == COUNT
    warnings = [one for one in caplog.messages if "does not fit on the device next to the network" in one]
    assert 1 <= len(warnings) <= (1 if what[0] is DeviceImage else COUNT - 3) and 4 <= len(calls) <= COUNT


def test_memory_that_is_missing_for_the_filter_is_told_with_what_helps(monkeypatch, film, tmp_path):
    use_torch_compositor(monkeypatch)
    runner, target = restorer(sharpen, ONE)[0], tmp_path / "out.mkv"
    assert runner.device.type == "cpu" and frame_restorer_type(runner, RestoreOptions()) is TorchFrameRestorer
    raise_on_calls(CUDA_OOM, (torch_temporal_filter, "merge"), monkeypatch, (3,))
    with pytest.raises(OutOfMemory, match=r"filtering this video's faces on the device.*use a smaller model.*use the CPU"):
        restore_video(film(), target, runner, None, STEADY)
    assert not target.exists()


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.parametrize("is_async", ["0", "1"])
def test_on_a_gpu(monkeypatch, film, tmp_path, device, pixels, smoothing, is_async):
    """A GPU beside OpenCV on the CPU."""
    monkeypatch.setenv(ASYNC_VARIABLE, is_async)
    source, video = film(pixels), replace(EXACT, temporal_smoothing=smoothing)
    found = []
    for place in ("cpu", device):
        target = tmp_path / f"{place}.mkv"
        found.append((restore_video(source, target, restorer(sharpen, PAIR, device=place)[0], None, video), target))
    assert_same(source, found)

"""The whole way on the device beside OpenCV's on the CPU: within one level of 8 bits, and bit for bit outside the mask."""

import logging

import cv2
import helpers
import numpy as np
import pytest
import torch
from compositor_backends import (
    CUDA,
    CUDA_OOM,
    DEVICES,
    KINDS,
    OPENCV_ROUNDS,
    Sharpening,
    make_image,
    raise_on_calls,
    restore_with_both,
    restorer_on,
    to_8bit_levels,
    use_torch_compositor,
)

from gpen_core import Interrupted, RestoreOptions
from gpen_core.errors import OutOfMemory
from gpen_core.faces.align import align_face
from gpen_core.faces.blend import Canvas
from gpen_core.faces.mask import square_mask
from gpen_core.images.image import to_image_data
from gpen_core.network import GPEN
from gpen_core.pipeline import torch_compositor
from gpen_core.pipeline.devices import BatchPlan
from gpen_core.pipeline.inputs import RestoreInput
from gpen_core.pipeline.model_set import GPENRunner
from gpen_core.pipeline.torch_canvas import TorchCanvas
from gpen_core.pipeline.torch_image import DeviceImage, to_tensor

ONE = [helpers.make_face((160, 130), 90, tilt=12)]
BESIDE = [
    helpers.make_face((130, 150), 110, tilt=-8),
    helpers.make_face((230, 160), 90, tilt=15),
    helpers.make_face((190, 60), 50),
]
PAIRS = {
    "one": ONE,
    "over the border": [helpers.make_face((4, 8), 90, tilt=30), helpers.make_face((310, 235), 80)],
    "overlapping": BESIDE,
    "overlapping, in the other order": BESIDE[::-1],
    "enlarged": [helpers.make_face((160, 120), 30, tilt=-20)],
    "reduced": [helpers.make_face((160, 120), 400, tilt=5)],
}


def check(monkeypatch, device, faces, frame, options=None, red=0.0):
    expected, found = restore_with_both(monkeypatch, device, faces, frame, options, red)
    assert found.image.dtype == expected.image.dtype and found.image.shape == expected.image.shape
    assert [face.restored for face in found.faces] == [face.restored for face in expected.faces]
    change = np.abs(to_8bit_levels(found.image) - to_8bit_levels(expected.image))
    assert change.max() <= 1 + 1e-6
    assert np.abs(found.mask - expected.mask).max() < 1 / 255
    before = frame.image if frame.background is None else frame.background
    assert np.array_equal(found.image[found.mask == 0], before[found.mask == 0])
    assert found.is_changed and (found.image[found.mask > 0] != before[found.mask > 0]).any()
    return expected, found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("faces", PAIRS)
def test_faces_wherever_they_are(monkeypatch, device, faces):
    _, found = check(monkeypatch, device, PAIRS[faces], RestoreInput(make_image(240, 320, "uint8")))
    assert all(face.restored and face.network == 256 for face in found.faces)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_every_kind_of_image(monkeypatch, device, kind, strength):
    frame = RestoreInput(make_image(240, 320, kind))
    check(monkeypatch, device, BESIDE, frame, RestoreOptions(strength=strength))


def test_of_16_bits_the_low_ones_come_too(monkeypatch):
    expected, found = check(monkeypatch, "cpu", ONE, RestoreInput(make_image(240, 320, "uint16")))
    assert np.abs(found.image.astype(int) - expected.image.astype(int)).max() < 30
    assert len(np.unique(found.image % 256)) == 256


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_faces_in_a_background(monkeypatch, device, kind):
    image = make_image(160, 200, kind)
    large = cv2.resize(image, (600, 480), interpolation=cv2.INTER_CUBIC)
    large = large if kind == "uint8" else large.clip(0, 1)
    faces = [helpers.make_face((80, 80), 60, tilt=10), helpers.make_face((125, 90), 50)]
    check(monkeypatch, device, faces, RestoreInput(image, background=large))


@pytest.mark.parametrize("device", DEVICES)
def test_a_limit(monkeypatch, device):
    region_mask = np.zeros((240, 320), np.float32)
    region_mask[:, :180] = np.linspace(1, 0.2, 180, dtype=np.float32)
    _, found = check(monkeypatch, device, BESIDE, RestoreInput(make_image(240, 320, "uint8"), region_mask=region_mask))
    assert not found.mask[:, 180:].any() and found.mask[:, :180].any()


@pytest.mark.parametrize("device", DEVICES)
def test_overlapping_faces_of_several_strengths(device):
    image = to_image_data(make_image(240, 320, "float32"))
    region_mask = np.linspace(1, 0, 320, dtype=np.float32)[None].repeat(240, 0)
    expected, found = Canvas(image, region_mask), Canvas(image, region_mask)
    device_canvas = TorchCanvas(found, DeviceImage(image, image.full_region, torch.device(device)))
    colors, strengths = np.eye(3, dtype=np.float32), (0.25, 1.0, 0.5)
    for face, color, strength in zip(BESIDE, colors, strengths):
        crop, alignment = np.broadcast_to(color, (256, 256, 3)).copy(), align_face(face.landmarks, 256)
        expected.paste(crop, square_mask(), alignment, strength)
        tensors = (to_tensor(one, torch.device(device)) for one in (crop, square_mask().copy()))
        device_canvas.paste(*tensors, alignment, strength)
    device_canvas.close()
    np.testing.assert_allclose(found.mask, expected.mask, atol=0.01)  # OpenCV 4 rounds places to 1/32 px
    np.testing.assert_allclose(found.result.pixels, expected.result.pixels, atol=0.01)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("color", ["none", "match", "auto"])
@pytest.mark.parametrize("kind", ["uint8", "gray"])
def test_colors(monkeypatch, device, color, kind):
    check(monkeypatch, device, BESIDE, RestoreInput(make_image(240, 320, kind)), RestoreOptions(color=color), red=0.3)


@pytest.mark.parametrize("device", DEVICES)
def test_sepia_stays_sepia(monkeypatch, device):
    gray = make_image(240, 320, "float32")[..., :1]
    image = np.rint(gray * np.float32([255, 220, 170])).astype(np.uint8)
    _, found = check(monkeypatch, device, ONE, RestoreInput(image), red=0.3)
    full = found.image[found.mask == 1].astype(int)
    assert np.abs(full[:, 0] - full[:, 2] * 255 / 170).mean() < 3  # the network's red is 38 levels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.slow
def test_a_parsed_mask(monkeypatch, device):
    weights = helpers.parsenet(19, **helpers.NARROW).state_dict()
    parsers = [helpers.narrow_parser(weights, place) for place in ("cpu", device)]
    frame = RestoreInput(make_image(240, 320, "uint8"))
    expected, found = restore_with_both(monkeypatch, device, ONE, frame, RestoreOptions(mask_type="parse"), parsers=parsers)
    assert 0.02 < expected.mask.mean() < 0.5
    assert (np.abs(found.mask - expected.mask) < 1 / 255).mean() > 0.98  # untrained, its classes are close rivals
    assert np.array_equal(found.image[found.mask == 0], frame.image[found.mask == 0])


def test_a_square_that_is_aligned_already(monkeypatch):
    image = make_image(300, 300, "uint8")
    expected, found = restore_with_both(monkeypatch, "cpu", [], RestoreInput(image, is_aligned=True))
    assert np.abs(to_8bit_levels(found.image) - to_8bit_levels(expected.image)).max() <= 1
    assert (found.mask == 1).all()


NOT_ON_DEVICE = [{"grain": 0.5}, {"preserve": "occluders"}, {"mask_expand": -0.2}, {"fidelity": 0.5}]


@pytest.mark.parametrize("option", NOT_ON_DEVICE, ids=str)
def test_what_is_not_done_there_goes_the_other_way_and_comes_out_the_same(monkeypatch, option):
    frame = RestoreInput(make_image(240, 320, "uint8"))
    expected, found = restore_with_both(monkeypatch, "cpu", ONE, frame, RestoreOptions(**option))
    assert np.array_equal(found.image, expected.image) and np.array_equal(found.mask, expected.mask)


def test_crops_are_kept_as_arrays(monkeypatch):
    use_torch_compositor(monkeypatch)
    restorer = restorer_on("cpu", helpers.constant_weights(256, (0.2, 0.6, 0.4)), BESIDE)
    result = restorer.restore_batch([RestoreInput(make_image(240, 320, "uint8"))], keep_crops=True)[0]
    assert len(result.crops) == 3 and all(crop.shape == (256, 256, 3) for crop in result.crops)
    np.testing.assert_allclose(result.crops[0][128, 128], (0.2, 0.6, 0.4), atol=1e-5)


def test_several_images_and_sizes_at_once(monkeypatch):
    """An image leaves the device after its last face of one network, and comes again for the next."""
    use_torch_compositor(monkeypatch)
    seen, taken = [], []
    closing, taking = TorchCanvas.close, Canvas.write_region

    def close(canvas):
        taken.clear()
        closing(canvas)
        seen.append(len(taken))

    monkeypatch.setattr(TorchCanvas, "close", close)
    monkeypatch.setattr(Canvas, "write_region", lambda canvas, *given: taken.append(given) or taking(canvas, *given))
    frames = [RestoreInput(make_image(240, 320, "uint8")), RestoreInput(make_image(250, 330, "float32"))]
    together = restorer_on("cpu", Sharpening(), BESIDE).restore_batch(frames)
    alone = [restorer_on("cpu", Sharpening(), BESIDE).restore_batch([frame])[0] for frame in frames]
    for one, other in zip(together, alone):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
    assert seen == [3, 3, 3, 3]


def test_an_image_that_comes_again_has_the_faces_that_it_had(monkeypatch):
    """Of a canvas that is opened twice the second time shows and masks as if it had stayed open."""
    image = make_image(240, 320, "uint8")
    use_torch_compositor(monkeypatch)
    whole = restorer_on("cpu", Sharpening(), BESIDE).restore(image)
    expecting = torch_compositor.TorchCompositor.begin
    monkeypatch.setattr(torch_compositor.TorchCompositor, "begin", lambda self, tasks: None)
    cutting = torch_compositor.TorchCompositor.crop
    monkeypatch.setattr(
        torch_compositor.TorchCompositor, "crop", lambda self, task: expecting(self, [task]) or cutting(self, task)
    )
    parts = restorer_on("cpu", Sharpening(), BESIDE).restore(image)
    assert np.array_equal(parts.image, whole.image) and np.array_equal(parts.mask, whole.mask)


@pytest.mark.parametrize("what", [(DeviceImage, "__init__"), (TorchCanvas, "__init__")], ids=lambda what: what[0].__name__)
def test_an_image_that_does_not_fit_is_put_back_by_the_cpu(monkeypatch, what, caplog):
    frame = RestoreInput(make_image(240, 320, "uint8"))
    expected = restorer_on("cpu", Sharpening(), BESIDE).restore_batch([frame])[0]
    use_torch_compositor(monkeypatch)
    raise_on_calls(CUDA_OOM, what, monkeypatch, (0,))
    with caplog.at_level(logging.WARNING):
        found = restorer_on("cpu", Sharpening(), BESIDE).restore_batch([frame])[0]
    assert "does not fit on the device" in caplog.text and caplog.text.count("does not fit") == 1
    assert (
        np.array_equal(found.mask, expected.mask)
        and np.abs(to_8bit_levels(found.image) - to_8bit_levels(expected.image)).max() <= 1
    )


def test_other_errors_of_the_device_are_not_hidden(monkeypatch):
    use_torch_compositor(monkeypatch)
    raise_on_calls(
        RuntimeError("CUDA error: an illegal memory access was encountered"), (DeviceImage, "__init__"), monkeypatch, (0,)
    )
    with pytest.raises(RuntimeError, match="illegal"):
        restorer_on("cpu", Sharpening(), ONE).restore(make_image(240, 320, "uint8"))


def test_crops_that_do_not_fit_together_are_fewer(monkeypatch):
    use_torch_compositor(monkeypatch)
    monkeypatch.setattr(GPENRunner, "plan_batches", lambda self, max_memory: BatchPlan(2, None))
    raise_on_calls(CUDA_OOM, (DeviceImage, "crop"), monkeypatch, (1,))
    found = restorer_on("cpu", Sharpening(), BESIDE).restore(make_image(240, 320, "uint8"))
    assert all(face.restored for face in found.faces)


@pytest.mark.parametrize("what", [(DeviceImage, "crop"), (TorchCanvas, "paste")], ids=lambda what: what[1])
def test_memory_that_is_not_there_for_one_is_said(monkeypatch, what):
    use_torch_compositor(monkeypatch)
    raise_on_calls(CUDA_OOM, what, monkeypatch, range(99))
    with pytest.raises(OutOfMemory):
        restorer_on("cpu", Sharpening(), ONE).restore(make_image(240, 320, "uint8"))


def test_progress_stops_the_work_there_too(monkeypatch):
    use_torch_compositor(monkeypatch)

    def stop(event):
        if event.done == 1:
            raise Interrupted("stopped")

    image = make_image(240, 320, "uint8")
    before = image.copy()
    with pytest.raises(Interrupted):
        restorer_on("cpu", Sharpening(), BESIDE).restore(image, progress=stop)
    assert np.array_equal(image, before)


def test_a_batchs_memory_is_let_go_before_the_next(monkeypatch):
    import weakref

    use_torch_compositor(monkeypatch)
    monkeypatch.setattr(GPENRunner, "plan_batches", lambda self, max_memory: BatchPlan(2, None))
    alive = []
    restoring = GPENRunner.restore

    def restored(self, crops, strip_bytes, on_tick):
        assert not any(one() is not None for one in alive)
        made = restoring(self, crops, strip_bytes, on_tick)
        alive.extend(weakref.ref(one) for one in (*crops, *made))
        return made

    monkeypatch.setattr(GPENRunner, "restore", restored)
    restorer_on("cpu", Sharpening(), BESIDE).restore(make_image(240, 320, "uint8"))
    assert len(alive) == 6


@pytest.mark.parametrize("device", DEVICES)
def test_a_real_network_there(monkeypatch, device):
    frame = RestoreInput(make_image(240, 320, "float32"))
    weights = helpers.random_weights(256)
    use_torch_compositor(monkeypatch, OPENCV_ROUNDS)
    expected = restorer_on("cpu", weights, ONE).restore_batch([frame])[0]
    use_torch_compositor(monkeypatch)
    found = restorer_on(device, weights, ONE).restore_batch([frame])[0]
    assert np.abs(to_8bit_levels(found.image) - to_8bit_levels(expected.image)).max() <= 1 and found.is_changed


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_from_image_to_image(monkeypatch, device, dtype):
    frame = RestoreInput(make_image(240, 320, "float32"))
    weights = helpers.sharpening_weights(256, 0.5)
    use_torch_compositor(monkeypatch)
    expected = restorer_on("cpu", weights, BESIDE).restore_batch([frame])[0]
    found = restorer_on(device, GPEN.from_state_dict(weights, dtype), BESIDE).restore_batch([frame])[0]
    inside = expected.mask > 0
    assert helpers.psnr(found.image[inside], expected.image[inside]) >= 50


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), CUDA])
def test_a_face_beyond_float16_is_redone_in_float32_alone(monkeypatch, device):
    """On the CPU float16 is emulated; `pick_dtype` does not give it there."""
    use_torch_compositor(monkeypatch)
    weights = helpers.overflowing_weights(256, 0.5)
    image = make_image(240, 480, "float32") * np.float32(0.4)
    image[:, 240:] += np.float32(0.3)
    faces = [helpers.make_face((120, 120), 90), helpers.make_face((360, 120), 90)]
    expected = restorer_on("cpu", weights, faces).restore(image)
    half = GPEN.from_state_dict(weights, torch.float16)
    monkeypatch.setattr(GPENRunner, "plan_batches", lambda self, max_memory: BatchPlan(2, None))
    found = restorer_on(device, half, faces, lambda: GPEN.from_state_dict(weights)).restore(image)
    assert [face.note for face in found.faces] == [None, "restored in float32 because the float16 output was not finite"]
    inside = expected.mask > 0
    assert helpers.psnr(found.image[inside], expected.image[inside]) >= 50 and np.isfinite(found.image).all()
    assert np.array_equal(
        restorer_on("cpu", helpers.sharpening_weights(256, 0.5), faces).restore(image).image, expected.image
    )

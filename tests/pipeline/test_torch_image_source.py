"""What a detector looks at, made on the device, beside OpenCV's: levels, squares, and the faces that are found in them."""

import logging

import cv2
import helpers
import numpy as np
import pytest
import torch
from compositor_backends import (
    CUDA_OOM,
    DEVICES,
    KINDS,
    OPENCV_ROUNDS,
    Sharpening,
    make_image,
    needs_exact_opencv,
    raise_on_calls,
    use_torch_compositor,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from gpen_core import RestoreOptions
from gpen_core.errors import OutOfMemory
from gpen_core.faces.align import Alignment, invert_affine
from gpen_core.faces.detection.image_source import OpenCVImageSource
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.images.image import to_image_data
from gpen_core.pipeline.face_detection import detect_faces
from gpen_core.pipeline.inputs import RestoreInput
from gpen_core.pipeline.model_set import GPENRunner, ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.pipeline.torch_image import DeviceImage, UploadCache
from gpen_core.pipeline.torch_image_source import TorchImageSource
from gpen_core.tools.demo import images as demo_pictures

CPU = torch.device("cpu")
SIZES = {  # of images, and the sides of their levels
    "by two": ((300, 400), (200, 67)),
    "by three and four": ((240, 360), (120, 30)),
    "by a part": ((301, 473), (317, 106, 35)),
    "hardly": ((301, 473), (472, 157)),
    "as it is": ((301, 473), (473, 158)),
    "a lot": ((1500, 2300), (96, 32)),
    "enlarged": ((37, 61), (122, 41)),
    "thin": ((1, 500), (100, 33)),
    "high": ((500, 3), (166, 55)),
    "one pixel": ((1, 1), (2, 1)),
}


def scenes(images, sides, device):
    pictures = [to_image_data(image) for image in images]
    return OpenCVImageSource(pictures, sides), TorchImageSource(pictures, sides, torch.device(device), UploadCache(0))


def noise(height, width, kind):
    """Black and white pixels: nothing is steeper."""
    values = np.random.default_rng(5).random((height, width, 4 if kind == "rgba" else 3)) > 0.5
    values = values[..., 0] if kind == "gray" else values
    dtype = kind if kind.startswith(("uint", "float")) else "uint8"
    return (values * {"uint8": 255, "uint16": 65535}.get(dtype, 1)).astype(dtype)


def changes(device, shape, sides, kind):
    """What OpenCV's levels and ours differ by."""
    opencv, ours = scenes([noise(*shape, kind), noise(*shape, kind)[::-1]], sides, device)
    for n in range(len(sides)):
        expected, found = opencv.pyramid_level(n, (0, 1), 0), ours.pyramid_level(n, (0, 1), 0)
        assert tuple(found.shape) == expected.shape and found.dtype == torch.float32
        yield np.abs(found.cpu().numpy() - expected)


def two_kinds_each():
    """Each size with one kind of whole numbers and one of floats."""
    return [(size, KINDS[(n + more) % len(KINDS)]) for n, size in enumerate(SIZES) for more in (0, 3)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("size", "kind"), two_kinds_each())
def test_levels_are_opencvs(device, size, kind):
    """Within 0.0001 of 255: sums are added in another order. Of whole numbers, which OpenCV rounds, what lies half way may
    be one lower or higher; of 8 bits that was at most one value of 10,000, and three of a very small image."""
    for change in changes(device, *SIZES[size], kind):
        if kind.startswith("float"):
            assert change.max() < 1e-4
        else:
            assert change.max() <= (1.01 / 257 if kind == "uint16" else 1)
            assert (change > 1 / 256).sum() <= max(10, change.size / 1000)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors])
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    part=st.floats(0.05, 2),
    kind=st.sampled_from(KINDS),
)
def test_levels_of_any_size_are_nearly_opencvs(device, shape, part, kind):
    """Some sizes have many values half way between two whole numbers, and enlarging is less exact (0.0086 at most)."""
    side = max(2, round(part * max(shape)))
    for change in changes(device, shape, (side, max(1, side // 3)), kind):
        assert change.max() <= (0.02 if kind.startswith("float") or kind == "uint16" else 1)


@pytest.mark.parametrize("quarters", range(4))
def test_levels_are_turned_and_some_left_out(quarters):
    images = [make_image(90, 120, "uint8"), make_image(90, 120, "uint8")[:, ::-1], make_image(90, 120, "uint8")[::-1]]
    opencv, ours = scenes(images, (120, 40), "cpu")
    for n, members in ((0, (0, 1, 2)), (1, (2, 0))):
        expected, found = (scene.pyramid_level(n, members, quarters) for scene in (opencv, ours))
        assert np.abs(found.numpy() - expected).max() < 1e-3


def test_what_is_not_reduced_is_not_written_to():
    image = make_image(40, 60, "float32")
    before = image.copy()
    scene = TorchImageSource([to_image_data(image)], (60, 20), CPU, UploadCache(0))
    assert np.array_equal(image, before) and scene.pyramid_level(0, (0,), 0).max() > 1


@needs_exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_squares_are_opencvs(device, kind):
    """As exact as what is cut out for the network; see test_warp.py."""
    opencv, ours = scenes([noise(230, 311, kind), noise(230, 311, kind)[::-1]], (311,), device)
    wanted = []
    for n, (scale, degrees) in enumerate([(0.3, 0), (0.9, 25), (1, 180), (3, 250), (1.7, 45)]):
        a, b = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        matrix = np.array([[a, -b, 20.3], [b, a, 60.7]])
        wanted.append((n % 2, Alignment(matrix, invert_affine(matrix), 160)))
    matrix = np.array([[1.0, 0.0, 900.0], [0.0, 1.0, 0.0]])  # beyond the image
    wanted.append((0, Alignment(matrix, invert_affine(matrix), 160)))
    expected, found = opencv.crops(wanted), ours.crops(wanted)
    assert tuple(found.shape) == expected.shape == (6, 160, 160, 3)
    assert np.abs(found.cpu().numpy() - expected).max() < 0.5 and expected[:5].std(axis=(1, 2, 3)).min() > 10
    assert not found[5].any()


# Faces


def lying(image):
    return np.ascontiguousarray(np.rot90(image))


def tilted(image):
    matrix = cv2.getRotationMatrix2D((255.5, 255.5), 33, 1)
    return cv2.warpAffine(image, matrix, (512, 512), borderValue=(117, 117, 117))


def resized(image, side):
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_CUBIC)


PHOTOGRAPHS = {
    "as it is": lambda image: image,
    "lying": lying,
    "tilted": tilted,
    "gray": lambda image: image[..., 1],
    "16 bits": lambda image: image.astype(np.uint16) * 257,
    "float": lambda image: image / np.float32(255),
    "float16": lambda image: (image / np.float32(255)).astype(np.float16),
    "with alpha": lambda image: np.dstack((image, image[..., 0])),
    "a thumbnail": lambda image: resized(image, 96),
    "huge": lambda image: resized(image, 4100),
    "six faces": lambda image: demo_pictures.collage(),
    "six, lying": lambda image: lying(demo_pictures.collage()),
}


def assert_same(found, expected):
    """Landmarks and corners within 1/500 of the face's width (measured on a CPU: 1/15000), and scores within 0.001. An
    OpenCV that rounds places may be off by 1/32 px more."""
    assert len(found) == len(expected) >= 1
    for one, other in zip(found, expected):
        most = (other.box[2] - other.box[0]) / 500 + (1 / 32 if OPENCV_ROUNDS else 0)
        assert np.abs(np.subtract(one.box, other.box)).max() < most
        assert np.abs(one.landmarks - other.landmarks).max() < most
        assert abs(one.score - other.score) < 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", PHOTOGRAPHS)
@pytest.mark.slow
def test_the_same_faces_are_found(monkeypatch, detector_weights, astronaut, device, kind):
    image = PHOTOGRAPHS[kind](astronaut)
    use_torch_compositor(monkeypatch, False)
    expected = detect_faces(Detector.from_state_dict(detector_weights, CPU), [image])[0]
    use_torch_compositor(monkeypatch)
    assert_same(detect_faces(Detector.from_state_dict(detector_weights, torch.device(device)), [image])[0], expected)


def test_a_box_that_leads_is_looked_into_there_too(monkeypatch, detector_weights, astronaut):
    detector = Detector.from_state_dict(detector_weights, CPU)
    canvas = np.full((600, 800, 3), 110, np.uint8)
    canvas[200:244, 300:344] = resized(astronaut, 44)
    pictures, boxes = [to_image_data(canvas)] * 2, [[(300, 200, 344, 244), (-90, -90, -40, -40)], None]
    expected = detector.detect(pictures, boxes=boxes)
    found = detector.detect(pictures, boxes=boxes, make_source=on_cpu)
    assert_same(found[0], expected[0])
    assert found[1] == expected[1] == []


def on_cpu(pictures, sides):
    return TorchImageSource(pictures, sides, CPU, UploadCache(0))


def noted_parts(monkeypatch):
    parts = []
    making = DeviceImage.__init__
    monkeypatch.setattr(DeviceImage, "__init__", lambda self, *what: parts.append(self) or making(self, *what))
    return parts


def test_an_image_goes_there_once_and_in_8_bits(monkeypatch, detector_weights, astronaut):
    use_torch_compositor(monkeypatch)
    parts = noted_parts(monkeypatch)
    detector = Detector.from_state_dict(detector_weights, CPU)
    assert len(detect_faces(detector, [tilted(astronaut)])[0]) == 1  # which is looked at again
    assert [part.samples.dtype for part in parts] == [torch.uint8]


@pytest.mark.parametrize(("most", "count"), [(64 << 20, 3), (512 * 512 * 3, 5), (0, 6)])
@pytest.mark.slow
def test_what_detection_brought_there_is_cut_out_of_as_far_as_it_is_kept(
    monkeypatch, detector_weights, astronaut, most, count
):
    use_torch_compositor(monkeypatch)
    parts = noted_parts(monkeypatch)
    monkeypatch.setattr("gpen_core.pipeline.restore_run.MAX_CACHED_BYTES", most)
    detector = Detector.from_state_dict(detector_weights, CPU)
    restorer = FaceRestorer(ModelSet([GPENRunner(Sharpening(), CPU)], detector, CPU))
    results = restorer.restore_batch(
        [RestoreInput(astronaut), RestoreInput(astronaut[::-1]), RestoreInput(tilted(astronaut))]
    )
    assert all(result.is_changed for result in results) and len(parts) == count
    whole = [part for part in parts if part.region == part.source.full_region]
    assert len(whole) == 3


def test_what_is_kept_elsewhere_is_not_taken(astronaut):
    picture, uploads = to_image_data(astronaut), UploadCache(1 << 20)
    part = uploads.get(picture, CPU)
    assert uploads.get(picture, CPU) is part and uploads.pop(picture, torch.device("meta")) is None
    assert uploads.get(picture, CPU) is not part


def test_what_counts_is_where_the_detector_is(monkeypatch, astronaut):
    asked, made = [], []
    monkeypatch.setattr("gpen_core.pipeline.device_check.supports_image_ops", lambda device: asked.append(device) or True)

    class Elsewhere(helpers.FakeDetector):
        device = torch.device("meta")

        def detect(self, pictures, options, boxes, on_tick, make_scene, near):
            made.append(make_scene(pictures, [512]).pyramid_level(0, [0], 0).device)
            return super().detect(pictures, options, boxes, on_tick)

    detect_faces(Elsewhere([]), [astronaut])
    assert asked == made == [torch.device("meta")]


class NoDoubles(TorchFunctionMode):
    """What the devices of Apple do not have."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        assert not (isinstance(made, torch.Tensor) and made.dtype == torch.float64), func
        return made


@pytest.mark.parametrize(("kind", "size"), [("lying", 397), ("a thumbnail", 401), ("16 bits", 403), ("float", 407)])
def test_nothing_is_float64_there(detector_weights, astronaut, kind, size):
    """The sizes are this test's own, so that nothing of them was cached before."""
    detector = Detector.from_state_dict(detector_weights, CPU)
    picture = to_image_data(PHOTOGRAPHS[kind](astronaut))
    with NoDoubles():
        assert len(detector.detect([picture], RestoreOptions(detection_size=size), make_source=on_cpu)[0]) == 1


# Memory


@pytest.mark.parametrize("what", [(DeviceImage, "__init__"), (TorchImageSource, "crops")], ids=lambda what: what[0].__name__)
def test_an_image_that_does_not_fit_is_reduced_by_the_cpu(monkeypatch, detector_weights, astronaut, what, caplog):
    detector, image = Detector.from_state_dict(detector_weights, CPU), tilted(astronaut)
    (expected,) = detector.detect([to_image_data(image)])[0]
    use_torch_compositor(monkeypatch)
    raise_on_calls(CUDA_OOM, what, monkeypatch, (0,))
    with caplog.at_level(logging.WARNING):
        (found,) = detect_faces(detector, [image])[0]
    assert caplog.text.count("downscaling it on the CPU") == 1
    assert found.box == expected.box and np.array_equal(found.landmarks, expected.landmarks)


def test_images_that_do_not_fit_together_are_fewer(monkeypatch, detector_weights, astronaut, caplog):
    monkeypatch.setattr(Detector, "batch_size", 4)
    use_torch_compositor(monkeypatch)
    raise_on_calls(CUDA_OOM, (DeviceImage, "__init__"), monkeypatch, (3,))
    with caplog.at_level(logging.WARNING):
        found = detect_faces(Detector.from_state_dict(detector_weights, CPU), [astronaut] * 4)
    assert [len(faces) for faces in found] == [1] * 4
    assert "continuing with 2" in caplog.text and "by the CPU" not in caplog.text


def test_memory_that_is_not_there_either_way_is_said(monkeypatch, detector_weights, astronaut):
    use_torch_compositor(monkeypatch)
    raise_on_calls(CUDA_OOM, (Detector, "forward"), monkeypatch, range(99))
    with pytest.raises(OutOfMemory, match="smaller detection size"):
        detect_faces(Detector.from_state_dict(detector_weights, CPU), [astronaut])


def test_other_errors_of_the_device_are_not_hidden(monkeypatch, detector_weights, astronaut):
    use_torch_compositor(monkeypatch)
    raise_on_calls(
        RuntimeError("CUDA error: an illegal memory access was encountered"), (DeviceImage, "__init__"), monkeypatch, (0,)
    )
    with pytest.raises(RuntimeError, match="illegal"):
        detect_faces(Detector.from_state_dict(detector_weights, CPU), [astronaut])

"""RGB and gray that a device makes of a frame's planes, there on the CPU, beside FFmpeg's and OpenCV's."""

import cv2
import numpy as np
import pytest
import torch
from compositor_backends import DEVICES

from gpen_core.images.image import ImageData, Region
from gpen_core.pipeline import device_check
from gpen_core.pipeline.torch_image import DeviceImage
from gpen_core.video import face_motion, shots, torch_frame
from gpen_core.video.planes import ColorSpec, PixelFormat, Planes, to_rgb
from gpen_core.video.torch_rgb import DevicePlanes

CPU = torch.device("cpu")
SIZE, ODD = (64, 48), (57, 35)
CHROMA = ["yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p"]
DEEP = ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p9le", "yuv444p12le", "yuv420p14le", "yuv420p16le"]
OTHERS = ["yuva420p", "yuva444p10le", "gray", "gray10le", "gray16le", "gbrp", "gbrp10le", "gbrp12le", "gbrp16le", "gbrap"]
OPENCV_5 = int(cv2.__version__.split(".")[0]) >= 5  # earlier versions round differently
BT709, BT601, BT2020 = 1, 6, 9
LIMITED, FULL = 1, 2


def random_planes(name, size, colors, seed=0):
    """Noise: nothing is steeper, and many colors are outside RGB. FFmpeg's sums overflow for colors twice as bright as
    white, so chroma stays below three quarters of its range, and luma in the limited range."""
    rng, layout, (width, height) = np.random.default_rng(seed), PixelFormat.parse(name), size
    arrays = []
    for number in range({"gray": 1}.get(layout.kind, 3) + layout.has_alpha):
        is_chroma = layout.kind == "yuv" and number in (1, 2)
        across, down = (layout.subsampling_x, layout.subsampling_y) if is_chroma else (1, 1)
        low, high = (32, 224) if is_chroma else (16, 236) if layout.kind == "yuv" else (0, 256)
        low, high = (limit * 2 ** (layout.bits - 8) for limit in (low, high))
        samples = rng.integers(low, high, (-(-height // down), -(-width // across)))
        arrays.append(samples.astype(np.uint8 if layout.bits == 8 else np.uint16))
    return Planes(tuple(arrays), name, colors)


def convert(planes, device="cpu", region=None):
    whole = region or Region(0, 0, *planes.size)
    return DevicePlanes.upload(planes, whole, torch.device(device)).to_rgb(whole).cpu().numpy()


def assert_same_rgb(planes, device="cpu"):
    bits = planes.layout.bits
    expected, found = to_rgb(planes.to_frame(), planes.colors, bits), convert(planes, device)
    levels = np.abs(found.astype(np.float64) - expected) * (1 if bits == 8 else 255 / 65535)
    assert found.shape == expected.shape and levels.max() <= (1 if bits == 8 else 0.2) and (levels > 0.5).mean() < 0.02


@pytest.mark.parametrize("size", [SIZE, ODD], ids=str)
@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize("name", CHROMA + DEEP + OTHERS)
def test_every_format(name, range_, size):
    assert_same_rgb(random_planes(name, size, ColorSpec(range_, BT709)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [BT709, 4, 5, BT601, 7, BT2020, 10, 2])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_every_matrix_and_range(name, matrix, range_, device):
    assert_same_rgb(random_planes(name, SIZE, ColorSpec(range_, matrix)), device)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 2), (5, 64), (64, 5)], ids=str)
@pytest.mark.parametrize("name", ["yuv420p", "yuv410p", "gray"])
def test_small_frames(name, size):
    assert convert(random_planes(name, size, ColorSpec(LIMITED, BT709))).shape == (*size[::-1], 3)


@pytest.mark.parametrize("size", [SIZE, ODD], ids=str)
@pytest.mark.parametrize("name", [*CHROMA, "yuv420p10le", "gray", "gbrp12le"])
def test_a_part_is_the_same_as_in_the_whole(name, size):
    planes = random_planes(name, size, ColorSpec(LIMITED, BT709))
    whole = convert(planes)
    for region in (Region(0, 0, 9, 7), Region(13, 11, 30, 24), Region(size[0] - 11, size[1] - 5, *size), Region(5, 6, 6, 7)):
        assert np.array_equal(convert(planes, region=region), whole[region.slices])


def test_a_part_uploads_hardly_more_than_its_planes():
    planes = random_planes("yuv420p", (640, 480), ColorSpec(LIMITED, BT709))
    uploaded = DevicePlanes.upload(planes, Region(100, 100, 300, 300), CPU)
    assert 60_000 <= sum(one.numel() * one.element_size() for one in uploaded.samples) < 1.05 * 60_000


def test_bands_are_joined(monkeypatch):
    planes = random_planes("yuv420p", ODD, ColorSpec(LIMITED, BT709))
    whole = convert(planes)
    monkeypatch.setattr("gpen_core.video.torch_rgb.MAX_BAND_VALUES", 3 * 57 * 8)
    assert np.array_equal(convert(planes), whole)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("size", [(300, 200), (120, 190), (64, 48)], ids=str)
def test_gray_and_thumbnails_are_opencvs(bits, size, device):
    rng = np.random.default_rng(0)
    image = ImageData(rng.integers(0, 2**bits, (*size[::-1], 3)).astype(np.uint8 if bits == 8 else np.uint16))
    there = DeviceImage(image, image.full_region, torch.device(device))
    gray = torch_frame.to_gray(there.samples).cpu().numpy().astype(int)
    assert np.abs(gray - face_motion.to_gray(image)).max() <= (0 if OPENCV_5 else 2)
    small, expected = torch_frame.thumbnail(there).cpu().numpy(), shots.thumbnail(image)
    assert small.shape == expected.shape and np.abs(small - expected).max() <= (1.01 if bits == 8 else 0.01)
    assert np.abs(small - expected).mean() < 0.02


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_converts_right_passes(device):
    assert device_check.find_problem(torch_frame.CONVERSION, torch.device(device)) is None

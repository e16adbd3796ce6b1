"""Changes of an image in the planes of its frame, compared with a plain computation."""

import numpy as np
import pytest

from gpen_core.images.image import ImageData
from gpen_core.video.planes import FULL, LIMITED, LUMA_COEFFICIENTS, ColorSpec, PixelFormat, Planes, to_rgb

SIZE = 37, 26  # odd, so that the last chroma samples cover one pixel
FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv420p10le", "gray", "gray10le", "gbrp", "gbrp16le"]


def random_planes(name, rng):
    layout, (width, height) = PixelFormat.parse(name), SIZE
    kind = np.uint8 if layout.bits == 8 else np.uint16
    arrays = []
    for number in range(1 if layout.kind == "gray" else 3):
        across, down = (layout.subsampling_x, layout.subsampling_y) if number else (1, 1)
        shape = -(-height // down), -(-width // across)
        arrays.append(rng.integers(0, 2**layout.bits, shape).astype(kind))
    return Planes(tuple(arrays), name, ColorSpec(1, 1))


def changes(difference, layout):
    """[H, W, planes] of BT.709 in the limited range, of G, B and R, or of gray in the full range."""
    red, green, blue = np.moveaxis(difference, 2, 0)
    if layout.kind == "gbrp":
        return np.stack((green, blue, red), 2) * (2**layout.bits - 1)
    steps = 2 ** (layout.bits - 8)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    if layout.kind == "gray":
        return luma[..., None] * (2**layout.bits - 1)
    chroma = (blue - luma) / 1.8556, (red - luma) / 1.5748
    return np.stack((219 * luma, 224 * chroma[0], 224 * chroma[1]), 2) * steps


def plain_sum(planes, difference):
    layout, (width, height) = planes.layout, SIZE
    out = []
    for number, (array, change) in enumerate(zip(planes.arrays, np.moveaxis(changes(difference, layout), 2, 0))):
        if number and layout.kind == "yuv":
            across, down = layout.subsampling_x, layout.subsampling_y
            change = np.pad(change, ((0, -height % down), (0, -width % across)), mode="edge")
            change = change.reshape(change.shape[0] // down, down, -1, across).mean((1, 3))
        out.append((array + change).clip(0, 2**layout.bits - 1))
    return out


def masks():
    width, height = SIZE
    parts = np.zeros((height, width), bool)
    parts[3:8, 5:13] = parts[7:9, 20:31] = parts[-1, -1] = True
    ring = np.ones((height, width), bool)
    ring[4:-4, 4:-4] = False
    ring[height // 2, width // 2] = True  # inside the hole
    many = np.zeros((height, width), bool)
    many[1::3, 1::3] = True
    return {"nothing": np.zeros((height, width), bool), "parts": parts, "ring": ring, "many": many}


@pytest.mark.parametrize(
    ("name", "color_planes", "subsampling"),
    [
        ("yuv420p", 3, [(1, 1), (2, 2), (2, 2)]),
        ("yuva422p", 3, [(1, 1), (2, 1), (2, 1), (1, 1)]),
        ("yuv440p", 3, [(1, 1), (1, 2), (1, 2)]),
        ("gbrap", 3, 4 * [(1, 1)]),
        ("gray10le", 1, [(1, 1)]),
    ],
)
def test_a_format_tells_how_its_planes_are_sampled(name, color_planes, subsampling):
    layout = PixelFormat.parse(name)
    assert layout.color_planes == color_planes
    assert [layout.subsampling(number) for number in range(len(subsampling))] == subsampling


@pytest.mark.parametrize("mask", masks())
@pytest.mark.parametrize("name", FORMATS)
def test_the_change_of_an_image_is_added_to_each_plane(name, mask):
    rng, where = np.random.default_rng(1), masks()[mask]
    planes = random_planes(name, rng)
    before, after = (rng.integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8) for _ in range(2))
    found = planes.apply_difference(ImageData(before), ImageData(after), where)
    expected = plain_sum(planes, where[..., None] * (after.astype(np.float64) - before) / 255)
    for one, other in zip(found.arrays, expected):
        assert np.abs(one - other).max() <= 0.5 + 1e-2  # rounding
    if mask == "nothing":
        assert all(one is other for one, other in zip(found.arrays, planes.arrays))


@pytest.mark.parametrize("name", FORMATS)
def test_planes_that_cover_no_changed_pixel_stay_bit_for_bit(name):
    rng, where = np.random.default_rng(2), masks()["parts"]
    planes = random_planes(name, rng)
    before, after = (rng.integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8) for _ in range(2))
    found = planes.apply_difference(ImageData(before), ImageData(after), where)
    assert np.array_equal(found.arrays[0][~where], planes.arrays[0][~where])
    assert not np.array_equal(found.arrays[0], planes.arrays[0])


@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [*LUMA_COEFFICIENTS, 2, 10])
@pytest.mark.parametrize("name", ["yuv444p", "yuv444p12le", "gray", "gray10le"])
def test_a_change_of_rgb_is_there_when_the_planes_are_converted_again(name, matrix, range_):
    layout = PixelFormat.parse(name)
    steps, colors = 2 ** (layout.bits - 8), ColorSpec(range_, matrix)
    kind = np.uint8 if layout.bits == 8 else np.uint16
    planes = Planes(
        tuple(np.full((16, 16), 120 * steps, kind) for _ in range(1 if layout.kind == "gray" else 3)), name, colors
    )
    before = to_rgb(planes.to_frame(), colors, layout.bits)
    wanted = np.array([30, 30, 30] if layout.kind == "gray" else [40, -20, 25])
    after = (before + wanted * (1 if before.dtype == np.uint8 else 257)).astype(before.dtype)
    changed = planes.apply_difference(ImageData(before), ImageData(after), np.ones((16, 16), bool))
    found = to_rgb(changed.to_frame(), colors, layout.bits)
    assert np.abs(found.astype(float) - after).max() <= (2 if before.dtype == np.uint8 else 257)

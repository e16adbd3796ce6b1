"""Images become smaller by area and larger by the filter that is asked for, exactly as OpenCV does it."""

import cv2
import numpy as np
import pytest

from gpen_core.images.resize import resize, scaled_size

ENLARGE = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]


def noise(shape, dtype):
    values = np.random.default_rng(7).uniform(0, 1, shape)
    return (values * np.iinfo(dtype).max if dtype.startswith("u") else values).astype(dtype)


def opencv(pixels, size, interpolation):
    known = pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels
    return cv2.resize(known, size, interpolation=interpolation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("enlarge", ENLARGE)
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3)])
def test_smaller_is_by_area_and_larger_by_the_filter(shape, enlarge, dtype):
    pixels = noise(shape, dtype)
    for size, interpolation in {(31, 21): cv2.INTER_AREA, (60, 39): cv2.INTER_AREA, (90, 60): ENLARGE[enlarge]}.items():
        made = resize(pixels, size, enlarge)
        assert made.shape == (size[1], size[0], *shape[2:]) and made.dtype == opencv(pixels, size, interpolation).dtype
        assert np.array_equal(made.squeeze(), opencv(pixels, size, interpolation).squeeze())


def test_each_image_of_a_batch_is_resized():
    batch = noise((2, 30, 60, 3), "float32")
    for size in ((20, 10), (120, 60)):
        assert np.array_equal(resize(batch, size), np.stack([resize(one, size) for one in batch]))


@pytest.mark.parametrize("shape", [(30, 60), (2, 30, 60, 3)])
def test_the_same_size_is_not_copied(shape):
    pixels = noise(shape, "float32")
    assert resize(pixels, (60, 30)) is pixels


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [((60, 30), 20, (20, 10)), ((37, 61), 122, (74, 122)), ((500, 3), 100, (100, 1)), ((5000, 1), 10, (10, 1))],
)
def test_proportions_stay_and_no_side_vanishes(size, longest, expected):
    assert scaled_size(size, longest) == expected

"""Resampling in torch beside OpenCV's: both directions, both borders, all that alignment asks for."""

import json
import math

import helpers
import numpy as np
import pytest
import torch
from compositor_backends import DEVICES, needs_exact_opencv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpen_core.faces import warp as opencv
from gpen_core.faces.align import align_face, crop_face
from gpen_core.images.image import to_image_data
from gpen_core.pipeline import torch_warp as ours
from gpen_core.pipeline.torch_image import DeviceImage

GOLDEN = json.loads((helpers.DATA / "align.json").read_text())["cases"]
LEVEL = 1 / 255


def similarity(scale, degrees, x, y):
    a, b = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


def noise(height, width, seed=5):
    """[H, W, 3] of black and white pixels: nothing is steeper."""
    return (np.random.default_rng(seed).random((height, width, 3)) > 0.5).astype(np.float32)


def pairs():
    """Scale, degrees, cubic, replicate: every pair of their values occurs."""
    found = []
    for number, scale in enumerate((0.07, 0.31, 0.499, 0.5, 0.9, 1.0, 1.7, 4.0)):
        cubic, replicate = number % 2 == 0, number % 4 < 2
        found += [(scale, 0, cubic, replicate), (scale, 25, not cubic, not replicate)]
    return found


def tensor(image, device):
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).to(device)  # HWC -> CHW


def array(image):
    return image.permute(1, 2, 0).cpu().numpy()  # CHW -> HWC


def assert_opencvs(device, matrix, cubic, replicate):
    image = noise(230, 311)
    expected = opencv.warp(image, matrix, (120, 91), cubic=cubic, replicate=replicate)
    found = array(ours.warp(tensor(image, device), matrix, (120, 91), cubic=cubic, replicate=replicate))
    assert found.shape == expected.shape and expected.std() > 0
    assert np.abs(found - expected).max() < LEVEL / 10


@needs_exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("scale", "degrees", "cubic", "replicate"), pairs())
def test_it_is_what_opencv_does(device, scale, degrees, cubic, replicate):
    assert_opencvs(device, similarity(scale, degrees, 40.3, -10.7), cubic, replicate)


@needs_exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors])
@given(
    scale=st.floats(0.07, 4),
    degrees=st.floats(-180, 180),
    place=st.tuples(st.floats(0, 311), st.floats(0, 230)),
    cubic=st.booleans(),
    replicate=st.booleans(),
)
def test_any_similarity_is_what_opencv_does(device, scale, degrees, place, cubic, replicate):
    """`place` of the image comes to the middle of the result."""
    turned = similarity(scale, degrees, 0, 0)
    turned[:, 2] = (60, 45) - turned[:, :2] @ place
    assert_opencvs(device, turned, cubic, replicate)


@needs_exact_opencv
def test_large_images_are_as_exact():
    image, matrix = noise(300, 4500), similarity(0.9, 2, -3000.4, 100.2)
    expected = opencv.warp(image, matrix, (1000, 200))
    assert np.abs(array(ours.warp(tensor(image, "cpu"), matrix, (1000, 200))) - expected).max() < LEVEL


@pytest.mark.parametrize("scale", [0.31, 1.7])
def test_bands_change_nothing(monkeypatch, scale):
    image, matrix = tensor(noise(230, 311), "cpu"), similarity(scale, 25, 40, -10)
    whole = ours.warp(image, matrix, (120, 91))
    monkeypatch.setattr(ours, "MAX_GRID_POINTS", 2000)
    torch.testing.assert_close(ours.warp(image, matrix, (120, 91)), whole, atol=1e-4, rtol=0)


@needs_exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_golden_alignments_cut_out_the_same_crops(device, number):
    case = GOLDEN[number]
    alignment = align_face(np.array(case["landmarks"]), min(case["size"], 512))
    span = int(np.ceil(np.max(case["landmarks"]))) + 20  # its square may reach over the border
    image = to_image_data((noise(span, span, number) * 255).astype(np.uint8))
    part = DeviceImage(image, image.full_region, torch.device(device))
    assert np.abs(array(part.crop(alignment)) - crop_face(image, alignment)).max() < LEVEL / 2

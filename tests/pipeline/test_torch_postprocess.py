"""Masks and colors in torch beside those of `faces`."""

import helpers
import numpy as np
import pytest
import torch
from compositor_backends import DEVICES

from gpen_core.faces import mask as masks
from gpen_core.faces.blend import blur_small_face
from gpen_core.faces.color import fit_tone, transfer_color
from gpen_core.options import RestoreOptions
from gpen_core.pipeline import torch_postprocess


def tensor(image, device="cpu"):
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).to(device)  # HWC -> CHW


def array(image):
    return image.permute(1, 2, 0).cpu().numpy()  # CHW -> HWC


@pytest.fixture
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["highest", "high"])  # the latter is TF32
def test_soft_edges_are_the_same(device, precision, matmul_precision):
    matmul_precision(precision)
    inside = (helpers.texture(512, 512, sigma=4)[..., 0] > 0.5).astype(np.float32)
    expected, found = (
        masks.feather_edges(inside),
        torch_postprocess.feather_edges(torch.from_numpy(inside).to(device)).cpu().numpy(),
    )
    assert np.abs(found - expected).max() < (2e-3 if precision == "high" else 1e-5)
    assert 0.1 < expected.mean() < 0.9 and not found[:8].any() and not found[:, -8:].any()
    ones = torch_postprocess.feather_edges(torch.ones((512, 512), device=device)).cpu().numpy()
    assert (ones[60:-60, 60:-60] == 1).all()  # exactly
    assert np.array_equal(torch_postprocess.square_mask(torch.device(device)).cpu().numpy(), masks.square_mask())


def test_input_of_soft_edges_is_not_changed():
    inside = torch.ones((512, 512))
    torch_postprocess.feather_edges(inside)
    assert (inside == 1).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.slow
def test_parsed_masks_are_the_same(device, side=1024):
    """Of a crop that is reduced; test_restoring.py has one that is enlarged."""
    weights = helpers.parsenet(19, **helpers.NARROW).state_dict()
    crop = helpers.texture(side, side, sigma=3)
    expected = helpers.narrow_parser(weights).mask(crop)
    found = torch_postprocess.parse_mask(helpers.narrow_parser(weights, device), tensor(crop, device)).cpu().numpy()
    assert 0.05 < expected.mean() < 0.95
    assert (np.abs(found - expected) < 1 / 255).mean() > 0.99  # untrained, its classes are close rivals


@pytest.mark.parametrize("side", [256, 512, 1024])
@pytest.mark.parametrize("tint", [(1, 1, 1), (1, 0.85, 0.6)])
def test_tones_are_the_same(side, tint):
    crop = helpers.texture(side, side, sigma=2)[..., :1] * np.float32(tint)
    restored = helpers.texture(side, side, seed=9)
    expected = fit_tone(crop)[0].apply(restored)  # in a photograph of one tone
    found = torch_postprocess.apply_tone(RestoreOptions(), tensor(crop), tensor(restored), photo=0.0)
    difference = np.abs(array(found) - expected)
    assert difference.max() < 1 / 255 and np.abs(expected - restored).max() > 0.1


def test_a_face_with_colors_of_its_own_is_left():
    crop, restored = (tensor(helpers.texture(256, 256, seed)) for seed in (1, 2))
    assert torch_postprocess.apply_tone(RestoreOptions(), crop, restored) is restored


@pytest.mark.parametrize("mask", ["feather", "none at all", "a part"])
@pytest.mark.parametrize("side", [256, 512, 1024])
def test_matched_colors_are_the_same(side, mask):
    crop, restored = helpers.texture(side, side, 1), helpers.texture(side, side, 2) * np.float32([0.5, 1, 0.8])
    part = {"feather": masks.square_mask().copy(), "none at all": np.zeros((512, 512), np.float32)}.get(mask)
    if part is None:
        part = masks.feather_edges((helpers.texture(512, 512, sigma=4)[..., 0] > 0.5).astype(np.float32))
    expected = transfer_color(restored, crop, part)
    found = torch_postprocess.match_color(
        RestoreOptions(color="match"), tensor(crop), tensor(restored), torch.from_numpy(part)
    )
    assert np.abs(array(found) - expected).max() < 1e-4
    assert np.array_equal(expected, restored) == (mask == "none at all")


def test_a_flat_channel_keeps_its_contrast():
    crop, restored = helpers.texture(256, 256), np.full((256, 256, 3), 0.3, np.float32)
    expected = transfer_color(restored, crop, masks.square_mask())
    found = torch_postprocess.match_color(RestoreOptions(color="match"), tensor(crop), tensor(restored), None)
    assert np.abs(array(found) - expected).max() < 1e-4


@pytest.mark.parametrize("side", [99, 100])
def test_small_faces_are_softened_the_same(side):
    crop, face = helpers.texture(256, 256), helpers.make_face((0, 0), side)
    found = array(torch_postprocess.blur_small_face(tensor(crop), face))
    assert np.abs(found - blur_small_face(crop, face)).max() < 1e-6 and np.array_equal(found, crop) == (side == 100)

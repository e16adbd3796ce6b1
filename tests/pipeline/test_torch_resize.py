"""Resizing on a device, beside OpenCV's."""

import numpy as np
import pytest
import torch
from compositor_backends import DEVICES

from gpen_core.images.resize import resize as opencv_resize
from gpen_core.pipeline import torch_resize


def noise(*shape):
    return np.random.default_rng(7).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(61, 37), (61, 30), (20, 12), (17, 37), (122, 74), (100, 61)])
def test_batches_are_resized_as_opencv_does(device, size):
    batch = noise(2, 37, 61, 3)
    made = torch_resize.resize(torch.from_numpy(batch).to(device), size).cpu().numpy()
    assert np.abs(made - opencv_resize(batch, size)).max() < 1e-5


def test_bands_change_nothing(monkeypatch):
    batch = (torch.from_numpy(noise(2, 301, 473, 3)) * 255).to(torch.uint8)
    whole = torch_resize.area_resize(batch, (317, 202))
    monkeypatch.setattr(torch_resize, "MAX_BAND_VALUES", 100_000)
    assert torch.equal(torch_resize.area_resize(batch, (317, 202)), whole)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side", [256, 512, 1024])
def test_crops_are_resized_as_opencv_does(device, side):
    crop = noise(side, side, 3)
    made = torch_resize.resize_crop(torch.from_numpy(crop).to(device).permute(2, 0, 1), 512)  # HWC -> CHW
    assert np.abs(made.permute(1, 2, 0).cpu().numpy() - opencv_resize(crop, (512, 512))).max() < 1e-5

"""A program may have set torch's defaults. Networks are loaded and compute as without that."""

import helpers
import numpy as np
import pytest
import torch

from gpen_core import FaceRestorer


@pytest.fixture
def load(models):
    return lambda: FaceRestorer.load(models / "red-256.pth", models / helpers.DETECTOR_FILE, device="cpu", dtype="fp32")


@pytest.fixture
def set_default():
    """Sets torch's default dtype or default device until the end of the test."""

    def change(value):
        (torch.set_default_dtype if isinstance(value, torch.dtype) else torch.set_default_device)(value)

    yield change
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize("value", [torch.float64, torch.float16, torch.bfloat16, "meta"], ids=str)
def test_results_do_not_depend_on_torchs_defaults(load, set_default, astronaut, value):
    """`meta` stands for a GPU: nothing can be read from a tensor there."""
    expected = load()(astronaut)
    set_default(value)
    result = load()(astronaut)
    assert [face.restored for face in result.faces] == [True]
    assert np.array_equal(result.image, expected.image)

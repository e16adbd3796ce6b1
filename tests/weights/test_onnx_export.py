"""Networks written as ONNX files: what ONNX Runtime makes of them, and that they are read back."""

import importlib.util

import onnx_files as made
import pytest
import reference_gpen
import torch

from gpen_core.errors import MissingDependency, UnsupportedPackage, WeightsError
from gpen_core.network import OnnxModel
from gpen_core.network.plain import PlainGPEN
from gpen_core.weights import checkpoint, onnx_export

PACKAGES = ("onnx", "onnxruntime")
needs_packages = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="needs the packages onnx and onnxruntime"
)
CONFIG = made.NARROW[256]


def faces(count):
    return torch.rand(count, 3, 256, 256, generator=torch.Generator().manual_seed(5)) * 2 - 1


def error(y, expected):
    return float((y - expected).abs().max() / expected.std())


def run(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["output"], {"input": x.numpy()})[0])


@torch.no_grad()
def test_the_plain_network_is_the_reference_for_a_batch_of_faces():
    x = faces(2)
    assert error(PlainGPEN(made.narrow_weights(), CONFIG)(x), reference_gpen.reference_gpen(made.narrow_weights(), x)) < 2e-5


@needs_packages
@pytest.mark.slow
def test_an_export_takes_any_number_of_faces_and_gives_its_weights_back(tmp_path):
    path = tmp_path / "a.onnx"
    assert onnx_export.export(made.narrow_weights(), CONFIG, path) < 2e-5
    x = faces(3)
    assert error(run(path, x), reference_gpen.reference_gpen(made.narrow_weights(), x)) < 2e-5
    read = checkpoint.load(path)
    assert list(read) == list(made.narrow_weights())
    assert all(torch.equal(read[key], made.narrow_weights()[key]) for key in read)


@needs_packages
def test_half_precision_says_which_torch_it_needs(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", missing)
    with pytest.raises(UnsupportedPackage, match=r"Install torch 2\.4 or newer, or export in float32"):
        onnx_export.export(made.narrow_weights(), CONFIG, tmp_path / "a.onnx", is_half=True)


@needs_packages
@pytest.mark.slow
@made.needs_half
def test_an_export_in_half_precision_with_a_fixed_batch(tmp_path):
    path = tmp_path / "a.onnx"
    assert 1e-6 < onnx_export.export(made.narrow_weights(), CONFIG, path, is_half=True, batch=1) < 5e-3
    x = faces(1)
    y = run(path, x)
    assert y.dtype == torch.float32 and error(y, reference_gpen.reference_gpen(made.narrow_weights(), x)) < 0.05
    assert isinstance(checkpoint.load(path), OnnxModel)  # not converted: ONNX Runtime runs it as it is


@needs_packages
def test_an_export_that_differs_gets_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)  # leaves an empty file
    path = tmp_path / "a.onnx"
    with pytest.raises(WeightsError, match=r"a\.onnx was not written: ONNX Runtime cannot run it"):
        onnx_export.export(made.narrow_weights(), CONFIG, path)
    monkeypatch.setattr(onnx_export, "run_runtime", lambda file, images: [image + 0.1 for image in images])
    with pytest.raises(WeightsError, match=r"a\.onnx was not written: .* differs by .* more than 0\.0001"):
        onnx_export.export(made.narrow_weights(), CONFIG, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_that_is_missing_is_named_with_its_command(tmp_path, monkeypatch, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec("json"))
    with pytest.raises(
        MissingDependency, match=rf"The package {package}, which .*, is not installed. Install it: .*{package}"
    ):
        onnx_export.export(made.narrow_weights(), CONFIG, tmp_path / "a.onnx")

"""ONNX Runtime behind the pipeline: images and videos as from the .pth, the provider for each device, the report."""

import importlib.util
import json
import logging
import sys
from importlib import metadata
from types import SimpleNamespace

import helpers
import numpy as np
import onnx_files as made
import pytest
import torch
import video_files
from PIL import Image

from gpen_core import DeviceError, FaceRestorer, MissingDependency, RestoreOptions, VideoOptions, restore_video
from gpen_core.cli.environment import format_optional_packages
from gpen_core.network import GPEN, OnnxNetwork
from gpen_core.network.onnx_network import CPU_PROVIDER, DIRECTML_PROVIDER
from gpen_core.pipeline import devices, onnx_providers
from gpen_core.pipeline.devices import cpu_supports_bf16, pick_device
from gpen_core.pipeline.network_loading import load_onnx_network
from gpen_core.pipeline.onnx_providers import OPENVINO_PROVIDER
from gpen_core.weights import onnx_export
from gpen_core.weights.digest import file_sha256
from gpen_core.weights.onnx_runtime import installed_runtime

pytest_plugins = ["cli_fixtures", "onnx_files"]
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))), reason="needs the packages onnx and onnxruntime"
)

CPU = torch.device("cpu")
MESSAGE = "These packages exclude each other."
needs_openvino = pytest.mark.skipif(
    installed_runtime() != "onnxruntime-openvino", reason="needs the package onnxruntime-openvino in place of onnxruntime"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models, unmapped_onnx):
    """A models folder with one network twice: as .pth, and as an ONNX file that cannot be converted."""
    folder = tmp_path_factory.mktemp("twice")
    files = {helpers.DETECTOR_FILE: (models / helpers.DETECTOR_FILE).read_bytes(), "narrow.pth": made.narrow_weights()}
    helpers.write_weights(folder, {**files, "as-it-is.onnx": unmapped_onnx.read_bytes()})
    return folder


def load(folder, model, device="cpu"):
    return FaceRestorer.load(model, "retinaface_mobile0.25", folder, device, "fp32")


def levels(one, other):
    return int(np.abs(np.asarray(one, np.int64) - np.asarray(other, np.int64)).max())


def test_images_are_those_of_the_pth(folder, astronaut, portrait):
    ours, runtime = load(folder, "narrow"), load(folder, "as-it-is")
    assert isinstance(ours.network, GPEN) and isinstance(runtime.network, OnnxNetwork)
    pairs = zip(*(one.restore_batch([astronaut, portrait], max_memory=1 << 30) for one in (ours, runtime)))
    for image, (one, other) in zip((astronaut, portrait), pairs):
        assert one.faces[0].restored and levels(one.image, image) > 20
        assert levels(one.image, other.image) <= 1


@pytest.mark.slow
def test_videos_are_those_of_the_pth(folder, tmp_path):
    source = video_files.write_lossless_video(tmp_path / "film.mkv", 4)
    for name in ("narrow", "as-it-is"):
        restore_video(source, tmp_path / f"{name}.mkv", load(folder, name), RestoreOptions(), VideoOptions(codec="ffv1"))
    before, one, other = (video_files.read_frames(tmp_path / f"{name}.mkv") for name in ("film", "narrow", "as-it-is"))
    assert levels(before, one) > 20 and levels(one, other) <= 2
    # The flow between frames is found in 8 bits, so a tiny difference of the networks may move it.
    assert np.mean(np.abs(np.int64(one) - np.int64(other)) > 1) < 1e-4


@pytest.mark.slow
def test_batches_are_those_of_the_pth_and_the_report_names_the_file(gpen, folder, face, tmp_path):
    for name in ("narrow", "as-it-is"):
        named = ("--model", name, "--detector", "retinaface_mobile0.25", "--models-dir", folder, "--device", "cpu")
        report = tmp_path / f"{name}.json"
        assert (
            gpen("restore", face, "-o", tmp_path / f"{name}.png", *named, "--dtype", "fp32", "--report", report).status == 0
        )
        file, engine = ("narrow.pth", "torch") if name == "narrow" else ("as-it-is.onnx", CPU_PROVIDER)
        content = json.loads(report.read_text())
        assert content["weights"] == [{"file": file, "sha256": file_sha256(folder / file), "engine": engine}]
    one, other = (np.array(Image.open(tmp_path / f"{name}.png")) for name in ("narrow", "as-it-is"))
    assert levels(one, other) <= 1


def test_the_report_names_the_onnx_file_that_was_converted(tmp_path, models, exported_onnx):
    helpers.write_weights(tmp_path, {"mine.onnx": exported_onnx.read_bytes()})
    for _ in range(2):  # converted, then read from what was kept
        restorer = FaceRestorer.load("mine", models / helpers.DETECTOR_FILE, tmp_path, "cpu", "fp32")
        assert restorer.weights == ({"file": "mine.onnx", "sha256": file_sha256(exported_onnx), "engine": "torch"},)
    assert (tmp_path / "mine.safetensors").exists()


def test_a_file_of_another_size_than_its_name_says_is_refused(tmp_path, models, unmapped_onnx):
    helpers.write_weights(tmp_path, {"GPEN-BFR-512.onnx": unmapped_onnx.read_bytes()})
    with pytest.raises(Exception, match="These are the weights of GPEN-256, but the file name is that of GPEN-512"):
        FaceRestorer.load("gpen-bfr-512", models / helpers.DETECTOR_FILE, tmp_path, "cpu", "fp32")


# providers


@pytest.fixture
def runtime_with(monkeypatch):
    """ONNX Runtime seems to have these providers. All of them compute on the CPU, and `spoil` changes their outputs."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    def install(*names, spoil=lambda y: y, loads=True):
        class Session:
            def __init__(self, data, options, providers, settings, enable_fallback):
                self.names, self.settings = (providers, settings) if loads else ([CPU_PROVIDER], [{}])
                self.real = real(data, options, [CPU_PROVIDER])

            def disable_fallback(self):
                self.real.disable_fallback()

            def get_providers(self):
                return self.names

            def get_inputs(self):
                return self.real.get_inputs()

            def run(self, names, feed):
                made = self.real.run(names, feed)
                return made if self.names == [CPU_PROVIDER] else [spoil(made[0])]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*names, CPU_PROVIDER])

    return install


def openvino_settings(device, hint, **more):
    config = {"INFERENCE_PRECISION_HINT": hint, **more}
    return {"device_type": device, "load_config": json.dumps({device: config})}


@pytest.mark.parametrize(
    ("device", "hip", "provider", "settings"),
    [
        ("cpu", None, CPU_PROVIDER, {}),
        ("cuda:1", None, "CUDAExecutionProvider", {"device_id": 1}),
        ("cuda:0", "6.2", "MIGraphXExecutionProvider", {}),
        ("xpu", None, OPENVINO_PROVIDER, openvino_settings("GPU", "f32")),
        ("mps", None, "CoreMLExecutionProvider", {}),
        ("privateuseone", None, DIRECTML_PROVIDER, {}),
    ],
)
def test_each_device_has_its_provider(runtime_with, monkeypatch, device, hip, provider, settings):
    monkeypatch.setattr(torch.version, "hip", hip)
    runtime_with(*onnx_providers.PACKAGES)
    expected = [(provider, settings)] if provider != CPU_PROVIDER else []
    assert onnx_providers.providers_for(torch.device(device)) == [*expected, (CPU_PROVIDER, {})]


def test_tensorrt_is_used_only_where_it_is_asked_for(runtime_with):
    runtime_with(*onnx_providers.PACKAGES)
    cuda = torch.device("cuda", 0)
    names = [name for name, _ in onnx_providers.providers_for(cuda, onnx_providers.requested_provider("tensorrt"))]
    assert names == [onnx_providers.TENSORRT_PROVIDER, "CUDAExecutionProvider", CPU_PROVIDER]
    assert onnx_providers.requested_provider("cuda") is onnx_providers.requested_provider(cuda) is None


@pytest.mark.parametrize(
    ("device", "dtype", "name", "hint", "computed"),
    [
        ("cpu", torch.float32, "CPU", "f32", torch.float32),
        ("cpu", torch.bfloat16, "CPU", "bf16", torch.bfloat16),
        ("xpu:0", torch.float32, "GPU", "f32", torch.float32),
        ("xpu:0", torch.float16, "GPU", "f16", torch.float16),
        ("xpu:0", torch.bfloat16, "GPU", "f32", torch.float32),  # its GPUs have no bfloat16
    ],
)
def test_openvino_computes_in_the_precision_that_is_asked_for(runtime_with, device, dtype, name, hint, computed):
    """Its own default is half precision wherever the hardware has it."""
    runtime_with(OPENVINO_PROVIDER)
    threads = {"INFERENCE_NUM_THREADS": str(torch.get_num_threads())} if name == "CPU" else {}
    found = onnx_providers.providers_for(torch.device(device), OPENVINO_PROVIDER, dtype)
    assert found == [(OPENVINO_PROVIDER, openvino_settings(name, hint, **threads)), (CPU_PROVIDER, {})]
    assert onnx_providers.provider_dtype(OPENVINO_PROVIDER, torch.device(device), dtype) == computed


def test_other_providers_compute_as_the_file_does():
    for provider in (CPU_PROVIDER, DIRECTML_PROVIDER, "CUDAExecutionProvider"):
        assert onnx_providers.provider_dtype(provider, torch.device("cuda"), torch.float16) == torch.float32


@pytest.mark.skipif(not hasattr(torch, "xpu"), reason="this torch knows no Intel GPUs")
def test_openvino_runs_on_the_intel_gpu_that_torch_has_else_on_the_cpu(runtime_with, monkeypatch):
    runtime_with(OPENVINO_PROVIDER)
    assert pick_device("openvino") == CPU
    monkeypatch.setattr(devices, "available_devices", lambda: [torch.device("cuda", 0), torch.device("xpu", 0), CPU])
    assert pick_device("openvino") == torch.device("xpu", 0)


def test_devices_that_onnx_runtime_adds_are_named(runtime_with, gpen, tmp_path):
    runtime_with(OPENVINO_PROVIDER)
    assert "; on request: openvino\n" in gpen("doctor", "--models-dir", tmp_path).out
    with pytest.raises(DeviceError, match=r"Available: .*cpu, openvino\."):
        pick_device("opencl")


def test_a_runtime_without_the_devices_provider_says_which_package_has_it(runtime_with, monkeypatch, caplog):
    runtime_with()
    monkeypatch.setattr(onnx_providers, "installed_runtime", lambda: "onnxruntime")
    assert onnx_providers.providers_for(torch.device("cuda", 0)) == [(CPU_PROVIDER, {})]
    assert "The ONNX file runs on the CPU. The installed onnxruntime has no CUDA; onnxruntime-gpu has it." in caplog.text
    assert MESSAGE in caplog.text and "pip install" not in caplog.text  # never beside another


def test_without_onnx_runtime_the_package_that_fits_is_installed(monkeypatch):
    monkeypatch.setattr(onnx_providers, "has_runtime", lambda: False)
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    with pytest.raises(DeviceError, match=r"DirectML needs ONNX Runtime, which is not installed\. .* onnxruntime-directml"):
        pick_device("directml")


def test_gpen_doctor_knows_every_package_of_onnx_runtime(monkeypatch):
    """Else it would say that none is installed beside one for a GPU."""
    real = metadata.distributions

    def distributions(name):
        fake = {"onnxruntime": [], "onnxruntime-directml": [SimpleNamespace(version="1.19.2")]}
        return fake[name] if name in fake else real(name=name)

    monkeypatch.setattr(metadata, "distributions", distributions)
    assert installed_runtime() == "onnxruntime-directml"
    (line,) = (line for line in format_optional_packages() if line.split()[0] == "onnxruntime")
    assert line.split() == ["onnxruntime", "1.19.2", "(onnxruntime-directml)"]


@pytest.mark.parametrize("name", ["directml", "openvino", "tensorrt"])
def test_a_device_of_onnx_runtime_that_it_lacks_is_refused(runtime_with, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    runtime_with("CUDAExecutionProvider")
    with pytest.raises(DeviceError, match=MESSAGE):
        pick_device(name)


@pytest.mark.parametrize("model", ["as-it-is", "narrow"])
def test_directml_works_without_torch_directml(runtime_with, monkeypatch, folder, portrait, model):
    """With an ONNX file as it is, and with a .pth, which is exported in memory."""
    expected = load(folder, "narrow").restore(portrait)
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    runtime_with(DIRECTML_PROVIDER)
    restorer = load(folder, model, "directml")
    assert restorer.network.provider == DIRECTML_PROVIDER and restorer.device == CPU and restorer.dtype == torch.float32
    assert levels(restorer.restore(portrait).image, expected.image) <= 1


def test_directml_runs_a_convertible_file_without_the_package_onnx(runtime_with, monkeypatch, models, exported_onnx):
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    runtime_with(DIRECTML_PROVIDER)
    monkeypatch.setitem(sys.modules, "onnx", None)
    detector = models / helpers.DETECTOR_FILE
    restorer = FaceRestorer.load(exported_onnx, detector, exported_onnx.parent, "directml", "fp32")
    assert restorer.network.provider == DIRECTML_PROVIDER and not exported_onnx.with_suffix(".safetensors").exists()
    with pytest.raises(MissingDependency, match="The package onnx, which writes ONNX files, is not installed"):
        FaceRestorer.load("red-256", detector, models, "directml", "fp32")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"spoil": lambda y: y + 0.1}, "the output differs by"),
        ({"spoil": lambda y: y * np.nan}, "the output differs by nan"),
        ({"loads": False}, "its libraries cannot be loaded"),
    ],
)
def test_a_provider_that_fails_or_computes_otherwise_gives_way_to_the_cpu(runtime_with, caplog, fault, problem):
    runtime_with("CUDAExecutionProvider", **fault)
    model = onnx_export.export_model(made.narrow_weights(), made.NARROW[256])
    with caplog.at_level(logging.WARNING):
        network = load_onnx_network(model, torch.device("cuda", 0))
    assert network.provider == CPU_PROVIDER
    assert f"ONNX Runtime uses the CPU instead of CUDAExecutionProvider: {problem}" in caplog.text


# OpenVINO


def test_half_precision_of_openvino_is_reported_and_redone_in_float32_where_it_is_not_finite(
    runtime_with, monkeypatch, folder, portrait
):
    """The simulated provider rounds as bfloat16 does."""

    def rounded(y):
        return torch.from_numpy(y).bfloat16().float().numpy()

    monkeypatch.setattr(devices, "cpu_supports_bf16", lambda: True)
    runtime_with(OPENVINO_PROVIDER, spoil=rounded)
    restorer = FaceRestorer.load("narrow", "retinaface_mobile0.25", folder, "openvino", "auto")
    assert restorer.network.provider == OPENVINO_PROVIDER and restorer.dtype == torch.bfloat16
    whole = restorer.restore(portrait)
    assert whole.faces[0].restored
    monkeypatch.setattr(OnnxNetwork, "forward", lambda self, x, *_: torch.full_like(x, torch.nan))
    (face,) = restorer.restore(portrait).faces
    assert face.restored and face.note == "restored in float32 because the bfloat16 output was not finite"


def test_openvino_is_refused_in_bfloat16_where_the_cpu_has_none(runtime_with, monkeypatch, folder):
    """OpenVINO would compute in float32 without a word."""
    monkeypatch.setattr(devices, "cpu_supports_bf16", lambda: False)
    runtime_with(OPENVINO_PROVIDER)
    with pytest.raises(DeviceError, match=r"OpenVINO does not support bf16 on this CPU.* Use fp32"):
        FaceRestorer.load("narrow", "retinaface_mobile0.25", folder, "openvino", "bf16")


@needs_openvino
@pytest.mark.parametrize("model", ["as-it-is", "narrow"])
def test_openvino_restores_as_torch_does(folder, astronaut, portrait, model):
    ours, runtime = load(folder, "narrow"), load(folder, model, "openvino")
    assert runtime.network.provider == OPENVINO_PROVIDER == runtime.weights[0]["engine"]
    assert runtime.device == CPU and runtime.dtype == torch.float32
    x = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(5)) * 2 - 1
    wanted, y = ours.network(x), runtime.network(x)
    assert float((y - wanted).abs().max() / wanted.std()) < 1e-4  # bfloat16 differs by 1e-2
    if model == "as-it-is":
        assert not torch.equal(y, load(folder, model).network(x))  # ONNX Runtime's CPU provider did not take it over
    for image in (astronaut, portrait):
        one, other = ours.restore(image), runtime.restore(image)
        assert one.faces[0].restored and levels(one.image, image) > 20
        assert levels(one.image, other.image) <= 1


@needs_openvino
@pytest.mark.skipif(not cpu_supports_bf16(), reason="this CPU does not compute in bfloat16")
def test_openvino_computes_in_bfloat16(folder):
    ours, runtime = load(folder, "narrow"), FaceRestorer.load("narrow", "retinaface_mobile0.25", folder, "openvino", "bf16")
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(5)) * 2 - 1
    wanted = ours.network(x)
    error = (runtime.network(x) - wanted).square().mean().sqrt() / wanted.std()
    assert runtime.network.provider == OPENVINO_PROVIDER and runtime.dtype == torch.bfloat16
    assert 1e-4 < error < 0.1


@needs_openvino
@pytest.mark.slow
def test_openvino_restores_videos_as_torch_does(folder, tmp_path):
    source = video_files.write_lossless_video(tmp_path / "film.mkv", 4)
    for device in ("cpu", "openvino"):
        restorer = load(folder, "narrow", device)
        restore_video(source, tmp_path / f"{device}.mkv", restorer, RestoreOptions(), VideoOptions(codec="ffv1"))
    before, one, other = (video_files.read_frames(tmp_path / f"{name}.mkv") for name in ("film", "cpu", "openvino"))
    assert levels(before, one) > 20 and levels(one, other) <= 2
    assert np.mean(np.abs(np.int64(one) - np.int64(other)) > 1) < 1e-4

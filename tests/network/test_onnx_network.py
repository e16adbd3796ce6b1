"""GPEN in ONNX Runtime beside GPEN in torch."""

import importlib.util

import onnx_files as made
import pytest
import torch

from gpen_core.errors import DeviceError, InputError, OutOfMemory, is_out_of_memory
from gpen_core.network import GPEN, OnnxModel, OnnxNetwork
from gpen_core.network.onnx_network import CPU_PROVIDER
from gpen_core.pipeline.gpen_runner import GPENRunner
from gpen_core.progress import StageTimer
from gpen_core.weights import onnx_export

pytest_plugins = ["onnx_files"]
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))), reason="needs the packages onnx and onnxruntime"
)

CPU = torch.device("cpu")
CONFIG = made.NARROW[256]


def load(data, config=CONFIG):
    return OnnxNetwork(OnnxModel(data, config), [(CPU_PROVIDER, {})], CPU)


@pytest.fixture(scope="module")
def expected():
    faces = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return faces, GPEN.from_state_dict(made.narrow_weights())(faces)


def difference(y, expected):
    return float((y - expected).abs().max() / expected.std())


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_each_face_of_a_batch_comes_out_as_from_torch(tmp_path, expected, batch):
    """A fixed batch size is looped over, and the last batch is padded."""
    faces, wanted = expected
    path = tmp_path / "gpen.onnx"
    onnx_export.export(made.narrow_weights(), CONFIG, path, batch=batch)
    ticks = []
    y = load(path.read_bytes())(faces, lambda: ticks.append(1), 1 << 20)
    assert y.shape == wanted.shape and y.dtype == torch.float32 and difference(y, wanted) < 1e-4
    assert len(ticks) == (2 if batch == 2 else 3)


@made.needs_half
def test_half_precision_has_float32_outside(tmp_path, expected):
    faces, wanted = expected
    path = tmp_path / "half.onnx"
    onnx_export.export(made.narrow_weights(), CONFIG, path, is_half=True)
    assert difference(load(path.read_bytes())(faces[:1]), wanted[:1]) < 0.1


def test_a_model_made_in_memory_is_the_same_network(expected):
    faces, wanted = expected
    model = onnx_export.export_model(made.narrow_weights(), CONFIG)
    assert difference(load(model.data)(faces[:1]), wanted[:1]) < 1e-4


def test_other_shapes_are_refused(unmapped_onnx):
    with pytest.raises(InputError, match=r"GPEN-256 requires shape \[B, 3, 256, 256\], got \[1, 3, 128, 128\]"):
        load(unmapped_onnx.read_bytes())(torch.zeros(1, 3, 128, 128))


def test_a_file_that_onnx_runtime_refuses_is_a_device_error(unmapped_onnx):
    network = load(unmapped_onnx.read_bytes()[:-100])
    with pytest.raises(
        DeviceError, match=r"ONNX Runtime cannot run GPEN-256 with CPUExecutionProvider \(.*Use another device"
    ):
        network(torch.zeros(1, 3, 256, 256))


def test_memory_that_runs_out_is_not_tried_in_strips(unmapped_onnx, monkeypatch):
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    network, calls = load(unmapped_onnx.read_bytes()), []

    def full(*_):
        calls.append(1)
        raise RuntimeException("Failed to allocate memory for requested buffer of size 4096")

    monkeypatch.setattr("onnxruntime.InferenceSession.run", full)
    runner = GPENRunner(network, CPU)
    with pytest.raises(RuntimeException) as raised:
        runner.run(torch.zeros(1, 3, 256, 256), None, print)
    assert is_out_of_memory(raised.value) and len(calls) == 1
    crop = torch.zeros(3, 256, 256)
    with pytest.raises(OutOfMemory, match="not enough memory for a single face"):
        list(runner.run_batches([0], lambda _: crop, StageTimer()))


def test_a_provider_that_fails_is_not_replaced_without_a_word(unmapped_onnx, capsys):
    """Else the report would name a provider that computes nothing."""
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    class Failing:
        def __getattr__(self, name):
            return getattr(real, name)

        def run(self, *_):
            raise EPFail("the driver was reset")

    network = load(unmapped_onnx.read_bytes())
    real, network.session()._sess = network.session()._sess, Failing()
    with pytest.raises(DeviceError, match="the driver was reset"):
        network(torch.zeros(1, 3, 256, 256))
    assert capsys.readouterr().out == ""


def test_two_files_have_different_digests_in_a_videos_cache(unmapped_onnx, exported_onnx):
    from gpen_core.video.work_dir import networks_digest

    one, other = load(unmapped_onnx.read_bytes()), load(exported_onnx.read_bytes())
    assert networks_digest([one]) == networks_digest([load(unmapped_onnx.read_bytes())]) != networks_digest([other])


def test_moved_off_an_accelerator_it_is_unloaded_until_the_next_face(unmapped_onnx):
    model = OnnxModel(unmapped_onnx.read_bytes(), CONFIG)
    on_cpu = OnnxNetwork(model, [(CPU_PROVIDER, {})], CPU)
    offloadable = OnnxNetwork(model, [(CPU_PROVIDER, {})], torch.device("meta"))  # stands for an accelerator
    for network, is_kept in ((on_cpu, True), (offloadable, False)):
        before = network.session()
        network.to("cpu")
        assert (network.session() is before) == is_kept


def test_cuda_graphs_are_declined_in_words(unmapped_onnx):
    assert "ONNX Runtime runs this network" in load(unmapped_onnx.read_bytes()).capture()

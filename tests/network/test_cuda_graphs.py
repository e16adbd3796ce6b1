"""What --compile does: fused passes give what plain ones give, and recorded calls what unrecorded ones give."""

import shutil
from functools import partial

import helpers
import pytest
import synthetic
import torch

from gpen_core.network import GPEN, fused_fir
from gpen_core.network.cuda_graphs import can_compile, compile_layers

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")


def inputs(count):
    return torch.cat([torch.from_numpy(synthetic.random_input(256, seed)) for seed in range(count)])


COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=[COMPILER, pytest.mark.nightly])])
@pytest.mark.skipif(torch.__version__.startswith(("2.1.", "2.2.", "2.3.")), reason="needs torch 2.4 for every Python")
@pytest.mark.slow
def test_fused_passes_give_what_plain_ones_give_and_can_be_undone(monkeypatch, backend):
    """Eager traces the same graphs as inductor and compiles no kernels, which takes a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(
        fused_fir, "is_supported", lambda x: x.is_contiguous(memory_format=torch.channels_last)
    )  # as on a GPU
    network, x = GPEN.from_state_dict(helpers.random_weights(256)), inputs(1)
    before = network(x)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    undo = compile_layers(network)
    assert "finish" in vars(network.conv1) and "add" in vars(network.to_rgb1) and "forward" in vars(network.stem)
    fused = network(x)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert (fused - before).abs().max() <= 1e-5 * before.std()
    undo()
    assert "finish" not in vars(network.conv1) and "forward" not in vars(network.stem)
    assert torch.equal(network(x), before)


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_recorded_calls_give_what_unrecorded_ones_give(monkeypatch, dtype, fused):
    if fused and not can_compile():
        pytest.skip("needs Triton")
    monkeypatch.setattr("gpen_core.network.gpen.can_compile", lambda: fused)
    network, x = GPEN.from_state_dict(helpers.random_weights(256), dtype).cuda(), inputs(3).cuda()
    expected = [network(x[:1]), network(x[1:]), network(x[2:])]
    left_out = network.capture()
    assert (left_out is None) == fused, left_out
    results = [network(x[:1]), network(x[1:]), network(x[2:])]  # shapes 1, 2 and 1 again
    network.release_memory()
    results.append(network(x[:1]))
    tolerance = (1e-4 if dtype == torch.float32 else 2e-2) * expected[0].std()
    for result, plain in zip(results, [*expected, expected[0]], strict=True):
        assert (result - plain).abs().max() <= tolerance


@pytest.mark.slow
def test_recording_that_fails_leaves_the_network_as_it_was(monkeypatch):
    network, x = GPEN.from_state_dict(helpers.random_weights(256)), inputs(1)
    before = network(x)

    def broken(self, x):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr("gpen_core.network.gpen.can_compile", lambda: True)
    monkeypatch.setattr("gpen_core.network.cuda_graphs.CUDAGraphRunner.__call__", broken)
    assert network.capture() == "CUDA graphs are not used: operation not permitted when stream is capturing"
    assert "finish" not in vars(network.conv1)
    assert torch.equal(network(x), before)

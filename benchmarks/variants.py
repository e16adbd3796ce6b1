"""Variants of running the network on a GPU. Each is prepared first (warm-up, capture or compilation), then called.

`network_variants` returns those of gpen_core, `twin` that of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest import mock

import reference_gpen as reference
import torch

from gpen_core.errors import first_line
from gpen_core.network import GPEN
from gpen_core.network.buffer_pool import BufferPool
from gpen_core.network.cuda_graphs import CUDAGraphRunner, raise_recompile_limit
from gpen_core.network.gpen import _ForwardContext
from gpen_core.pipeline.devices import is_out_of_memory

TWIN = "reference twin"
GAINS = (1.0, 4)  # of the twin's FIRs

Run = Callable[[], torch.Tensor]
Prepare = Callable[[], Run]


class Skipped(Exception):
    """Why a variant does not run here."""


def network_variants(network: GPEN, nchw: GPEN, x: torch.Tensor, anew: Callable[[], GPEN] | None) -> dict[str, Prepare]:
    """gpen_core's variants by name; `nchw` is the same network through `in_nchw`. `anew` builds it once more, for the
    variants that torch.compile changes; without it they are left out."""
    out: dict[str, Prepare] = {
        "channels_last": lambda: partial(network, x),
        "contiguous": lambda: partial(in_order, nchw, torch.contiguous_format, x),
        "CUDA graph": lambda: captured(network, x),
    }
    if anew is not None:
        out["--compile"] = lambda: recorded(anew(), x)
        out["compiled whole"] = lambda: compiled(network, x)
    return out


def twin(state_dict: dict[str, torch.Tensor], x: torch.Tensor) -> Prepare:
    """The reference twin on x's device; it would make its FIR kernels on the CPU, anew at each call."""
    kernels = {gain: reference.fir_kernel(gain).to(x.device) for gain in GAINS}

    def run() -> torch.Tensor:
        with mock.patch.object(reference, "fir_kernel", kernels.__getitem__):
            return reference.reference_gpen(state_dict, x)

    return lambda: run


def in_nchw(network: GPEN) -> GPEN:
    """The network with its weights in NCHW order: cuDNN takes the order from weights as well as from the input."""
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return network


@torch.no_grad()
def in_order(network: GPEN, order: torch.memory_format, x: torch.Tensor) -> torch.Tensor:
    """What `GPEN.forward` does, in another memory order and without its lock.

    It calls the private `_restore`: the public call always takes channels-last on CPU and CUDA."""
    x = x.to(network.dtype).contiguous(memory_format=order)
    return network._run(x, _ForwardContext(BufferPool()))


def _needs_graphs(x: torch.Tensor) -> None:
    if x.device.type != "cuda":
        raise Skipped("there are no CUDA graphs on this device")


def captured(network: GPEN, x: torch.Tensor) -> Run:
    """One call as a CUDA graph, nothing fused."""
    _needs_graphs(x)
    replay = CUDAGraphRunner(network)
    try:
        replay(x)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise Skipped(f"the capture failed: {first_line(error)}") from error
    return partial(replay, x)


def recorded(network: GPEN, x: torch.Tensor) -> Run:
    """What `gpen restore --compile` runs: fused between the convolutions, then a CUDA graph."""
    _needs_graphs(x)
    left_out = network.capture()
    if left_out is not None:
        raise Skipped(left_out)
    network(x)
    return partial(network, x)


def compiled(network: GPEN, x: torch.Tensor) -> Run:
    """torch.compile of what `channels_last` does, without the lock, which it cannot trace; compiled before it counts."""
    torch.compiler.reset()  # what was compiled for other cells counts against the limit
    raise_recompile_limit()
    run: Run = partial(torch.compile(in_order), network, torch.channels_last, x)
    try:
        run()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise Skipped(f"it does not compile: {first_line(error)}") from error
    return run

"""CUDA graphs for CUDA and ROCm devices: the kernels of a call are captured once, then launched together.

A face needs about a hundred kernels. With small networks on fast GPUs, launching them one by one takes longer than running
them. Where it can, torch.compile first fuses the elementwise operations between the convolutions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .blocks import EncoderBlock, StemBlock
from .layers import StyledConv, ToRGB

WARMUP_CALLS = 3  # calls on a side stream before the capture, as torch's documentation requires
MAX_COMPILATIONS = 64  # of one function: each layer needs one, and torch's default limit is 8
# The operations between the convolutions on a GPU: layer, method, and the method that is compiled to replace it.
COMPILED_METHODS = (
    (StyledConv, "finish", "finish_fused"),
    (ToRGB, "add", "add_fused"),
    (StemBlock, "forward", "forward"),
    (EncoderBlock, "activate", "activate"),
)

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _CapturedGraph:
    graph: Any
    static_input: torch.Tensor
    static_output: torch.Tensor


class CUDAGraphRunner:
    """Runs a function of one tensor as CUDA graphs, one for each input shape. Not thread-safe."""

    def __init__(self, run: Run) -> None:
        """`run` must launch the same kernels for every input of a shape and must not use the CPU."""
        self._run = run
        self._captured: dict[tuple[int, ...], _CapturedGraph] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return a copy of the output of `run`. Raises torch's `RuntimeError` if the capture fails or memory runs out."""
        with torch.cuda.device(x.device):
            captured = self._captured.get(tuple(x.shape))
            if captured is None:
                captured = self._captured[tuple(x.shape)] = self._capture(x)
            captured.static_input.copy_(x)
            captured.graph.replay()
            return captured.static_output.clone()

    def clear(self) -> None:
        """Free the memory of the graphs."""
        self._captured.clear()

    def _capture(self, x: torch.Tensor) -> _CapturedGraph:
        static_input = x.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_CALLS):
                self._run(static_input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # The graphs never run at the same time and their outputs are copied, so they can share memory.
        pool = next((other.graph.pool() for other in self._captured.values()), None)
        # In a video, other threads use the device meanwhile. The default mode would fail when one of them allocates memory.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            static_output = self._run(static_input)
        return _CapturedGraph(graph, static_input, static_output)


def can_compile() -> bool:
    """Whether Triton is installed, which torch.compile requires on a GPU. torch does not ship it for Windows."""
    return importlib.util.find_spec("triton") is not None


def raise_recompile_limit() -> None:
    """Let torch.compile compile one function for each layer of the network."""
    import torch._dynamo  # imported here because it takes a second

    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, limit, max(MAX_COMPILATIONS, getattr(torch._dynamo.config, limit)))


def compile_layers(network: nn.Module) -> Callable[[], None]:
    """Compile the operations between the network's convolutions, each on its first call. Returns an undo function."""
    raise_recompile_limit()
    compiled: list[tuple[nn.Module, str]] = []
    for module in network.modules():
        for kind, name, source in COMPILED_METHODS:
            if isinstance(module, kind):
                setattr(module, name, torch.compile(getattr(module, source), dynamic=False))
                compiled.append((module, name))

    def undo() -> None:
        for module, name in compiled:
            delattr(module, name)  # restores the method of the class

    return undo

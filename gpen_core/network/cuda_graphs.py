"""Many calls on a CUDA or ROCm device: recorded once, then launched as a whole.

A face takes some hundred kernels. With small networks on fast GPUs, launching them one by one takes longer than running
them; a CUDA graph is launched once. Before that, torch.compile may fuse the passes over memory between the convolutions.
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

WARMUP_CALLS = 3  # calls on another stream before recording, as torch's documentation asks for
MAX_COMPILATIONS = 64  # of one function: one per layer, and torch gives up after 8
# What lies between the convolutions on a GPU: a layer's method, and the one that is compiled in its place.
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
    """One function of one tensor as CUDA graphs, one for each shape of its input. For one thread at a time."""

    def __init__(self, run: Run) -> None:
        """`run` must do the same for every input of a shape, on the GPU alone."""
        self._run = run
        self._captured: dict[tuple[int, ...], _CapturedGraph] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What `run` gives, in memory of its own. RuntimeError of torch's where recording fails or memory runs out."""
        with torch.cuda.device(x.device):
            captured = self._captured.get(tuple(x.shape))
            if captured is None:
                captured = self._captured[tuple(x.shape)] = self._capture(x)
            captured.static_input.copy_(x)
            captured.graph.replay()
            return captured.static_output.clone()

    def clear(self) -> None:
        """Gives the graphs' memory back."""
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
        # The graphs never run at the same time and their results are copied, so they may share their memory.
        pool = next((other.graph.pool() for other in self._captured.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            static_output = self._run(static_input)
        return _CapturedGraph(graph, static_input, static_output)


def can_compile() -> bool:
    """Whether torch.compile has Triton to compile with, which it needs on a GPU (there is none for Windows in torch)."""
    return importlib.util.find_spec("triton") is not None


def raise_recompile_limit() -> None:
    """Lets torch.compile compile one function for each of our layers."""
    import torch._dynamo  # a second of imports that nobody else needs

    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, limit, max(MAX_COMPILATIONS, getattr(torch._dynamo.config, limit)))


def compile_layers(network: nn.Module) -> Callable[[], None]:
    """Compiles what lies between the network's convolutions, each at its first call. What comes back undoes it."""
    raise_recompile_limit()
    compiled: list[tuple[nn.Module, str]] = []
    for module in network.modules():
        for kind, name, source in COMPILED_METHODS:
            if isinstance(module, kind):
                setattr(module, name, torch.compile(getattr(module, source), dynamic=False))
                compiled.append((module, name))

    def undo() -> None:
        for module, name in compiled:
            delattr(module, name)  # back to the class's

    return undo

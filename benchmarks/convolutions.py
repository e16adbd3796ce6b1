"""The time of the network's learned convolutions, each measured separately: a lower bound for the whole network.

Each convolution processes its whole input at once, channels-last, for one face. Every call allocates a new output, as
torch's convolutions always do. FIR filters, activations, styles, modulation, sums and copies are not included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from timing import seconds

from gpen_core.network import GPENConfig


@dataclass(frozen=True)
class Convolution:
    """One layer: weights [O, I, k, k] on an input [1, I, side, side]."""

    key: str
    channels_out: int
    channels_in: int
    kernel: int
    side: int
    stride: int = 1
    padding: int = 0
    transposed: bool = False


def of_network(config: GPENConfig) -> list[Convolution]:
    """Every learned convolution; channels and kernels are those of the layout, checked to be all of it."""
    found = [*_encoder(config), *_decoder(config)]
    layout = config.parameter_shapes()
    learned = {key for key, shape in layout.items() if len(shape) >= 4 and key.endswith(".weight")}
    assert learned == {convolution.key for convolution in found}
    return found


def _encoder(config: GPENConfig) -> Iterator[Convolution]:
    layout = config.parameter_shapes()
    yield Convolution("ecd0.0.0.weight", *layout["ecd0.0.0.weight"][:3], config.size)
    for n in range(1, config.levels + 1):
        key = f"ecd{n}.0.1.weight"
        blurred = 2 * (config.size >> n) + 1  # the FIR of 4 with a pad of 2 and 2 before it
        yield Convolution(key, *layout[key][:3], blurred, stride=2)


def _decoder(config: GPENConfig) -> Iterator[Convolution]:
    def modulated(name: str, side: int, stride: int = 1, padding: int = 0, transposed: bool = False) -> Convolution:
        key = f"generator.{name}.conv.weight"
        _, channels_out, channels_in, kernel, _ = config.parameter_shapes()[key]
        return Convolution(key, channels_out, channels_in, kernel, side, stride, padding, transposed)

    yield modulated("conv1", 4, padding=1)
    yield modulated("to_rgb1", 4)
    for i in range(config.levels):
        yield modulated(f"convs.{2 * i}", 4 << i, stride=2, transposed=True)
        yield modulated(f"convs.{2 * i + 1}", 8 << i, padding=1)
        yield modulated(f"to_rgbs.{i}", 8 << i)


@torch.no_grad()
def alone(layer: Convolution, dtype: torch.dtype) -> float:
    """Seconds of one convolution, after one that warms up."""
    outer, inner = layer.channels_out, layer.channels_in
    first, second = (inner, outer) if layer.transposed else (outer, inner)
    weight = torch.randn(first, second, layer.kernel, layer.kernel).to(dtype, memory_format=torch.channels_last)
    x = torch.empty(1, inner, layer.side, layer.side, dtype=dtype, memory_format=torch.channels_last).fill_(0.5)
    convolve = F.conv_transpose2d if layer.transposed else F.conv2d
    run = partial(convolve, x, weight, stride=layer.stride, padding=layer.padding)
    run()
    return seconds(run)


def together(config: GPENConfig, dtype: torch.dtype) -> float:
    """The sum of all layers' seconds; one layer's tensors exist at a time."""
    return sum(alone(layer, dtype) for layer in of_network(config))

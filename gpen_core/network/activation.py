"""The activation of all layers, leaky ReLU. The gain sqrt(2) is in the weights, see `layers`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

SLOPE = 0.2
VECTOR_BYTES = 64  # per pixel: with fewer, the CPU does not vectorize operations on a part of the channels


def is_dense_better(x: torch.Tensor) -> bool:
    """Whether a whole tensor should be activated and then copied, instead of written into a part of the channels at once.

    `x` is [B, C, ...]. On the CPU this is faster with few channels. Other backends had bugs with outputs that are parts."""
    return x.device.type != "cpu" or x.shape[1] * x.element_size() < VECTOR_BYTES


def write_activated(x: torch.Tensor, out: torch.Tensor, dense: bool) -> None:
    """Write the activated `x` into `out`, a tensor or view of the same shape. With `dense`, `x` is overwritten."""
    if dense:
        out.copy_(F.leaky_relu_(x, SLOPE))
    else:
        torch.ops.aten.leaky_relu.out(x, SLOPE, out=out)  # in one pass

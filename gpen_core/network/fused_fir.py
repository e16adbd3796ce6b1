"""The FIR filters on a GPU, fused with the neighboring convolutions.

A depthwise filter moves as many bytes as the convolution next to it, but computes very little. On an H100 in float16 at
2048, these filters took 18 of the 27 ms per face: cuDNN has no depthwise kernel for channels-last and transposes the
tensors twice. At levels with more features than weights, the filter is therefore folded into the 3x3 weights, because both
are linear:

- Upsampling: a transposed convolution and its filter become one 3x3 convolution. It has four outputs per channel, the
  pixels of a 2x2 square.
- Downsampling: a filter and a convolution with stride 2 become one 6x6 convolution.

At levels with more weights than features, the filter is two products with a banded matrix.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

from .config import CPU_FLOAT32

TAPS = (1.0, 3.0, 3.0, 1.0)
MAX_BANDED_SIZE = 128  # rows: above it, folding is faster


def is_supported(x: torch.Tensor) -> bool:
    """Whether these filters are faster for `x`: on CUDA and ROCm, in channels-last order."""
    return x.device.type == "cuda" and x.is_contiguous(memory_format=torch.channels_last)


def fused_up_weight(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Fold the FIR filter (gain 4) into the weights of a transposed convolution with stride 2.

    [I, O, 3, 3] float32 -> the weights of one convolution, [4 * O, I, 3, 3] in `dtype`. Its output channels are
    (row, column, O) of a 2x2 square."""
    inputs, outputs = weight.shape[:2]
    spread = weight.reshape(inputs * outputs, 9) @ _spread_matrix(4.0, True, weight.device)
    phases = spread.view(inputs, outputs, 2, 2, 3, 3).permute(2, 3, 1, 4, 5, 0)  # row, column, O, 3, 3, I
    return phases.to(dtype).reshape(4 * outputs, 3, 3, inputs).permute(0, 3, 1, 2)  # in channels-last order


def fused_down_conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The FIR filter, then a convolution with stride 2: [B, I, 2 * S, 2 * S] in channels-last order -> [B, O, S, S].

    `weight` is [O, I, 3, 3]. Two neighbors in a row are treated as one pixel with twice the channels. Large levels have few
    channels, and cuDNN needs as little as a third of the time this way."""
    batch, inputs, height, width = x.shape
    pairs = x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, 2 * inputs).permute(0, 3, 1, 2)
    return F.conv2d(pairs, fused_down_weight(weight), stride=(2, 1), padding=(2, 1))


def fused_down_weight(weight: torch.Tensor) -> torch.Tensor:
    """Fold the FIR filter into the weights of the next convolution: [O, I, 3, 3] -> [O, 2 * I, 6, 3] for pixel pairs."""
    outputs, inputs = weight.shape[:2]
    spread = weight.float().reshape(outputs * inputs, 9) @ _spread_matrix(1.0, False, weight.device)
    wide = spread.view(outputs, inputs, 6, 3, 2).permute(0, 2, 3, 4, 1)
    return wide.to(weight.dtype).reshape(outputs, 6, 3, 2 * inputs).permute(0, 3, 1, 2)  # in channels-last order


def pixel_shuffle_view(x: torch.Tensor, channels: int) -> torch.Tensor:
    """A view of `x` by 2x2 squares, [B, H, 2, W, 2, O], where O is `channels`.

    `x` is in channels-last order: [B, 4 * O, H, W], with channels (row, column, O), or [B, C, 2 * H, 2 * W], of which the
    first O channels are used."""
    batch, planes, height, width = x.shape
    last = x.permute(0, 2, 3, 1)
    if planes == 4 * channels:
        return last.view(batch, height, width, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return last.view(batch, height // 2, 2, width // 2, 2, planes)[..., :channels]


def apply_fir(x: torch.Tensor, gain: float, padding: int) -> torch.Tensor:
    """The FIR filter with `padding` zeros on each side: [B, C, S, S] -> [B, C, S', S'], both in channels-last order."""
    batch, channels, side, _ = x.shape
    band = _band_matrix(side, math.sqrt(gain), padding, x.dtype, x.device)
    rows = torch.matmul(band, x.permute(0, 2, 3, 1).reshape(batch, side, side * channels))
    both = torch.matmul(band, rows.view(batch, len(band), side, channels))
    return both.permute(0, 3, 1, 2)


def _scaled_taps(gain: float) -> torch.Tensor:
    """The taps along one axis, with the sum `gain`."""
    return torch.tensor(TAPS, **CPU_FLOAT32) * (gain / sum(TAPS))


@lru_cache(maxsize=64)
def _band_matrix(side: int, gain: float, padding: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[S', S]: the matrix of the filter along one axis."""
    wide = torch.zeros(side + 2 * padding - len(TAPS) + 1, side + 2 * padding, **CPU_FLOAT32)
    for row in range(len(wide)):
        wide[row, row : row + len(TAPS)] = _scaled_taps(gain)
    return wide[:, padding : padding + side].to(device, dtype)


@lru_cache(maxsize=16)
def _spread_matrix(gain: float, phases: bool, device: torch.device) -> torch.Tensor:
    """[9, 36]: the matrix that maps 3x3 weights to their 6x6 convolution with the FIR filter.

    With `phases` (transposed convolution) the 36 are in the order (row of the 2x2 square, column, 3, 3)."""
    axis = torch.zeros(3, 6, **CPU_FLOAT32)
    for tap in range(3):
        axis[tap, tap : tap + len(TAPS)] = _scaled_taps(math.sqrt(gain))
    both = torch.einsum("ta,ub->tuab", axis, axis)
    if phases:  # tap 2 * n + row of the square; flipped because the first taps apply to the next neighbor
        both = both.view(3, 3, 3, 2, 3, 2).flip(2, 4).permute(0, 1, 3, 5, 2, 4)
    return both.reshape(9, 36).to(device)

"""On a GPU: the FIR without a pass of its own.

A depthwise filter moves as many bytes as the convolution beside it and computes next to nothing. Measured on an H100 in
float16 at 2048, these filters took 18 of a face's 27 ms: cuDNN has none for channels-last and turns the tensors round and
back. Where there are more features than weights, the filter is therefore folded into the 3x3 weights beside it (both are
linear): up, a transposed convolution and its filter become one 3x3 convolution with four outputs for each, the pixels of a
2x2 square; down, a filter and a convolution with stride 2 become one of 6x6. Where the weights are more, the filter is two
products with a banded matrix.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

TAPS = (1.0, 3.0, 3.0, 1.0)
MAX_BANDED_SIZE = 128  # rows: from there on folding is faster


def is_supported(x: torch.Tensor) -> bool:
    """Whether features are better filtered so: on CUDA and ROCm, in channels-last order."""
    return x.device.type == "cuda" and x.is_contiguous(memory_format=torch.channels_last)


def fused_up_weight(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weights of a transposed convolution with stride 2, [I, O, 3, 3] float32, with the FIR of gain 4 behind it as those
    of one convolution, [4 * O, I, 3, 3] in `dtype`: its outputs are (row, column, O) of a 2x2 square."""
    inputs, outputs = weight.shape[:2]
    spread = weight.reshape(inputs * outputs, 9) @ _spread_matrix(4.0, True, weight.device)
    phases = spread.view(inputs, outputs, 2, 2, 3, 3).permute(2, 3, 1, 4, 5, 0)  # row, column, O, 3, 3, I
    return phases.to(dtype).reshape(4 * outputs, 3, 3, inputs).permute(0, 3, 1, 2)  # in channels-last order


def fused_down_conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[B, I, 2 * S, 2 * S] in channels-last order -> the FIR and a convolution with stride 2 behind it, [B, O, S, S].

    `weight` is [O, I, 3, 3]. Two neighbors in a row are taken as one pixel of twice the channels: there are few of them
    where there are many pixels, and cuDNN takes up to a third of the time so."""
    batch, inputs, height, width = x.shape
    pairs = x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, 2 * inputs).permute(0, 3, 1, 2)
    return F.conv2d(pairs, fused_down_weight(weight), stride=(2, 1), padding=(2, 1))


def fused_down_weight(weight: torch.Tensor) -> torch.Tensor:
    """[O, I, 3, 3] with the FIR before it, for pairs of pixels: [O, 2 * I, 6, 3]."""
    outputs, inputs = weight.shape[:2]
    spread = weight.float().reshape(outputs * inputs, 9) @ _spread_matrix(1.0, False, weight.device)
    wide = spread.view(outputs, inputs, 6, 3, 2).permute(0, 2, 3, 4, 1)
    return wide.to(weight.dtype).reshape(outputs, 6, 3, 2 * inputs).permute(0, 3, 1, 2)  # in channels-last order


def pixel_shuffle_view(x: torch.Tensor, channels: int) -> torch.Tensor:
    """The same memory, pixel by pixel of its 2x2 squares: [B, 4 * O, H, W] (row, column, O) or [B, C, 2 * H, 2 * W], both in
    channels-last order -> [B, H, 2, W, 2, O], of C the first O."""
    batch, planes, height, width = x.shape
    last = x.permute(0, 2, 3, 1)
    if planes == 4 * channels:
        return last.view(batch, height, width, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return last.view(batch, height // 2, 2, width // 2, 2, planes)[..., :channels]


def apply_fir(x: torch.Tensor, gain: float, padding: int) -> torch.Tensor:
    """[B, C, S, S] -> the FIR over it, with so many zeros on each side, [B, C, S', S']; both in channels-last order."""
    batch, channels, side, _ = x.shape
    band = _band_matrix(side, math.sqrt(gain), padding, x.dtype, x.device)
    rows = torch.matmul(band, x.permute(0, 2, 3, 1).reshape(batch, side, side * channels))
    both = torch.matmul(band, rows.view(batch, len(band), side, channels))
    return both.permute(0, 3, 1, 2)


def _scaled_taps(gain: float) -> torch.Tensor:
    """Of one axis; they add up to `gain`."""
    return torch.tensor(TAPS) * (gain / sum(TAPS))


@lru_cache(maxsize=64)
def _band_matrix(side: int, gain: float, padding: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[S', S]: the filter along one axis."""
    wide = torch.zeros(side + 2 * padding - len(TAPS) + 1, side + 2 * padding)
    for row in range(len(wide)):
        wide[row, row : row + len(TAPS)] = _scaled_taps(gain)
    return wide[:, padding : padding + side].to(device, dtype)


@lru_cache(maxsize=16)
def _spread_matrix(gain: float, phases: bool, device: torch.device) -> torch.Tensor:
    """[9, 36]: 3x3 weights to the 6x6 that come of them and the FIR; those of a transposed convolution in the order
    (row of the square, column, 3, 3)."""
    axis = torch.zeros(3, 6)
    for tap in range(3):
        axis[tap, tap : tap + len(TAPS)] = _scaled_taps(math.sqrt(gain))
    both = torch.einsum("ta,ub->tuab", axis, axis)
    if phases:  # a tap of twice n and the square's row; the neighbor after the pixel has the first taps
        both = both.view(3, 3, 3, 2, 3, 2).flip(2, 4).permute(0, 1, 3, 5, 2, 4)
    return both.reshape(9, 36).to(device)

"""The upsampling convolution in strips of rows: a transposed 3x3 convolution with stride 2, then the FIR filter.

Three ways give the same rows:

- `CarriedRows`: torch's transposed convolution.
- `PhaseRows`: two convolutions, of which each computes every second row of the transposed one. They need 12 products per
  pixel and pair of channels instead of 9.
- `SquareRows`: one convolution with the filter folded in, which computes 2x2 squares. It needs 36 products, but no filter.

The last two are for bfloat16 on CPUs with AMX. oneDNN's convolutions reach 2,000 GFLOP/s there, and its transposed ones 430
(docs/benchmarks.md).
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

from .cpu_features import has_amx

MIN_PHASE_CHANNELS = 512  # input channels: with fewer, `SquareRows` is as fast (measured)


def has_fast_convolutions(dtype: torch.dtype) -> bool:
    """Whether convolutions in `dtype` are much faster than transposed ones on this CPU."""
    return dtype == torch.bfloat16 and has_amx()


def use_phases(weight: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether `conv_phases` is the fastest for `weight` [O, I, 3, 3] in `dtype` on this CPU."""
    return has_fast_convolutions(dtype) and weight.shape[1] >= MIN_PHASE_CHANNELS


def phase_weights(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights [O, I, 3, 3] of the transposed convolution as those of `conv_phases`.

    The first [2 * O, I, 2, 2] are for its even rows, the second [2 * O, I, 1, 2] for its odd rows. The output channels are
    (column of a pair, O)."""
    even_columns, odd_columns = weight[..., [2, 0]], F.pad(weight[..., 1:2], (1, 0))
    both = torch.cat((even_columns, odd_columns))
    return both[:, :, [2, 0]], both[:, :, 1:2]


def transposed_weight(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """The inverse of `phase_weights`, but with swapped channels: [I, O, 3, 3]."""
    even_columns, odd_columns = torch.cat((even[:, :, 1:], odd, even[:, :, :1]), 2).chunk(2)
    return torch.stack((even_columns[..., 1], odd_columns[..., 1], even_columns[..., 0]), -1).transpose(0, 1)


def conv_phases(
    x: torch.Tensor,
    weights: tuple[torch.Tensor, torch.Tensor],
    fir: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Upsample x [B, I, H + 2, W] with the output of `phase_weights`: -> [B, O, 2 * H, 2 * W].

    `fir` is the filter, [O, 1, 4, 4]. The output has no rows for the first and the last row of `x`. Zeros there are the
    padding of the image. (With padding above and below, oneDNN is ten times slower for kernels of one row.)"""
    even, odd = (_join_column_pairs(F.conv2d(x, weight, padding=(0, 1))) for weight in weights)
    batch, channels, rows, columns = odd.shape
    out = x.new_empty(batch, 2 * (rows - 2), columns - 2, channels).permute(0, 3, 1, 2)
    taps = fir[:, :, ::2], fir[:, :, 1::2]  # of the filter's rows, those that meet rows of the same kind
    for n in range(2):  # output rows 2 * i + n are made of even rows i and i + 1, and of odd rows i + n - 1 and i + n
        from_even = F.conv2d(even, taps[1 - n], bias, padding=(0, 1), groups=channels)
        from_odd = F.conv2d(odd[:, :, n : rows - 1 + n], taps[n], padding=(0, 1), groups=channels)
        torch.add(from_even[..., :-1], from_odd[..., :-1], out=out[:, :, n::2])
    return out


def _join_column_pairs(x: torch.Tensor) -> torch.Tensor:
    """[B, 2 * C, H, W] with the channels (column, C) -> [B, C, H, 2 * W]. A view in channels-last order."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height, 2 * width, channels // 2).permute(0, 3, 1, 2)


class RowUpsampler(Protocol):
    """The upsampling convolution over x [1, I, S, S], from top to bottom."""

    def __call__(self, bottom: int) -> torch.Tensor:
        """The next output rows, four or more, up to `bottom` (excluded, even).

        [1, O, H, 2 * S] or, in 2x2 squares, [1, 4 * O, H / 2, S]."""


class CarriedRows:
    """Torch's transposed convolution.

    Output row y depends on rows y / 2 - 1 to y / 2 + 1 of x. The partial sums of the last four output rows are added to
    those of the next call, because the transposed convolution and the FIR filter are both linear."""

    def __init__(self, x: torch.Tensor, weight: torch.Tensor, fir: torch.Tensor, bias: torch.Tensor) -> None:
        """`weight` is [I, O, 3, 3], `fir` [O, 1, 4, 4] and `bias` [O]."""
        self._features, self._weight, self._fir, self._bias = x, weight, fir, bias
        self._carry: torch.Tensor | None = None
        self._rows_read = 0

    def __call__(self, bottom: int) -> torch.Tensor:
        first, self._rows_read = self._rows_read, min(bottom // 2 + 1, self._features.shape[2])
        conv_out = F.conv_transpose2d(self._features[:, :, first : self._rows_read], self._weight, stride=2)
        conv_out = F.conv2d(conv_out, self._fir, self._bias, padding=(3, 1), groups=len(self._fir))  # from row 2 * first - 2
        outside_rows = 2  # rows outside the image
        if self._carry is not None:
            conv_out[:, :, :4] += self._carry
            outside_rows = 0
        self._carry = conv_out[:, :, -4:] - self._bias[:, None, None]
        is_last = self._rows_read == self._features.shape[2]
        return conv_out[:, :, outside_rows : -2 if is_last else -4]


class PhaseRows:
    """`conv_phases`. Each call computes the row before and the row after its own once more."""

    def __init__(
        self, x: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor], fir: torch.Tensor, bias: torch.Tensor
    ) -> None:
        self._reader, self._weights, self._fir, self._bias = _BorderedReader(x), weights, fir, bias

    def __call__(self, bottom: int) -> torch.Tensor:
        return conv_phases(self._reader(bottom), self._weights, self._fir, self._bias)


class SquareRows:
    """One convolution with the output of `fused_fir.fused_up_weight`."""

    def __init__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._reader, self._weight, self._bias = _BorderedReader(x), weight, bias.repeat(4)

    def __call__(self, bottom: int) -> torch.Tensor:
        return F.conv2d(self._reader(bottom), self._weight, self._bias, padding=(0, 1))


class _BorderedReader:
    """Reads x [1, I, S, S] from top to bottom, with one more row on both sides. Outside the image rows are zeros."""

    def __init__(self, x: torch.Tensor) -> None:
        self._features, self._top = x, 0

    def __call__(self, bottom: int) -> torch.Tensor:
        """The rows for the next output rows up to `bottom`."""
        first, last = self._top // 2 - 1, bottom // 2 + 1
        self._top = bottom
        height = self._features.shape[2]
        inside = self._features[:, :, max(first, 0) : min(last, height)]
        missing = max(-first, 0), max(last - height, 0)
        return F.pad(inside, (0, 0, *missing)) if any(missing) else inside

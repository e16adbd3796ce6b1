"""The levels of GPEN, the large ones in strips of rows.

A style is one for the whole image; everything else looks at a few rows around its own. So a level of 128x128 and more is
computed strip by strip: what lies between its layers is small enough for the processor's caches and never exists as a
whole, and the features of the full size are computed from the image wherever they are needed rather than kept.
In the decoder a strip goes on where the one above it ended: what that gave of rows at the seam is kept, not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from . import fused_fir
from .buffer_pool import BufferPool
from .layers import SLOPE, SQRT2, StyleCodes, StyledConv, ToRGB, Weights, depthwise_fir, frozen_parameter

MIN_STRIP_ROWS = 8  # rows: fewer are mostly seams

RowReader = Callable[[int, int], torch.Tensor]
"""Rows a to b (b excluded) of features [B, C, b - a, W]."""
TickCallback = Callable[[], None]
"""Called every few hundredths of a second of work; it stops the work by raising."""


def row_strips(side: int, row_bytes: int, strip_bytes: int | None) -> Iterator[tuple[int, int]]:
    """Cuts `side` rows, a power of two, into strips of equal height: the largest power of two whose rows take no more
    than `strip_bytes` bytes. One strip where there is no budget."""
    height = side
    while strip_bytes is not None and height > MIN_STRIP_ROWS and height * row_bytes > strip_bytes:
        height //= 2
    return ((top, top + height) for top in range(0, side, height))


class StemBlock(nn.Module):
    """`ecd0`: a 1x1 convolution at full size, activated."""

    def __init__(self, sd: Weights, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd["ecd0.0.0.weight"].float()
        self.weight = frozen_parameter(weight * (SQRT2 / weight[0].numel() ** 0.5), dtype)
        self.bias = frozen_parameter(sd["ecd0.0.1.bias"].float() * SQRT2, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, C, H, W]."""
        return F.leaky_relu_(F.conv2d(x, self.weight, self.bias), SLOPE)


class EncoderBlock(nn.Module):
    """`ecdN`: FIR (pad 2, 2), then a 3x3 convolution with stride 2, activated."""

    def __init__(self, sd: Weights, key: str, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd[f"{key}.0.1.weight"].float()
        self.channels, self.channels_in = weight.shape[:2]
        self.weight = frozen_parameter(weight * (SQRT2 / weight[0].numel() ** 0.5), dtype)
        self.bias = frozen_parameter(sd[f"{key}.0.2.bias"].float() * SQRT2, dtype)
        self.fir = frozen_parameter(depthwise_fir(1.0, self.channels_in), dtype)

    def forward(
        self,
        read_rows: RowReader,
        like: torch.Tensor,
        side: int,
        strip_bytes: int | None,
        pool: BufferPool,
        on_tick: TickCallback,
    ) -> torch.Tensor:
        """The rows of [B, C, 2 * side, 2 * side] -> [B, C', side, side] in `like`'s batch, type and memory order."""
        if fused_fir.is_supported(like) and strip_bytes is None:
            on_tick()
            return self.activate(self._forward_whole(read_rows(0, 2 * side), side))
        out = pool.get(f"level {side}", (len(like), self.channels, side, side), like)
        row_bytes = 2 * len(like) * 4 * side * self.channels_in * like.element_size()  # before and after the FIR
        for top, bottom in row_strips(side, row_bytes, strip_bytes):
            on_tick()
            first, last = max(2 * top - 2, 0), min(2 * bottom + 2, 2 * side)
            at_edge = last - first < 2 * (bottom - top) + 4
            blurred = F.conv2d(read_rows(first, last), self.fir, padding=(2 if at_edge else 0, 2), groups=self.channels_in)
            extra_rows = 2 * top - first if at_edge else 0  # rows of zeros on the side that is no edge are not wanted
            blurred = blurred[:, :, extra_rows : extra_rows + 2 * (bottom - top) + 1]
            out[:, :, top:bottom] = F.conv2d(blurred, self.weight, self.bias, stride=2)
        return F.leaky_relu_(out, SLOPE)

    def _forward_whole(self, x: torch.Tensor, side: int) -> torch.Tensor:
        """The FIR and the convolution on a GPU, without the bias."""
        if 2 * side <= fused_fir.MAX_BANDED_SIZE:
            return F.conv2d(fused_fir.apply_fir(x, 1.0, 2), self.weight, stride=2)
        return fused_fir.fused_down_conv(x, self.weight)

    def activate(self, conv_out: torch.Tensor) -> torch.Tensor:
        """What such a convolution gave, with the bias; in its place."""
        return F.leaky_relu_(conv_out.add_(self.bias[:, None, None]), SLOPE)


class DecoderBlock(nn.Module):
    """Two styled convolutions, the first of which doubles the size, and the level's share of the image."""

    def __init__(self, sd: Weights, number: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = StyledConv(sd, f"generator.convs.{2 * number}", upsample=True, dtype=dtype)
        self.conv = StyledConv(sd, f"generator.convs.{2 * number + 1}", upsample=False, dtype=dtype)
        self.to_rgb = ToRGB(sd, f"generator.to_rgbs.{number}", dtype)

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor, styles: StyleCodes, rgb: torch.Tensor, pool: BufferPool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, I, S, S], level [B, O, 2 * S, 2 * S], rgb [B, 3, S, S] -> features and rgb of twice the size."""
        x = self.conv(self.up(x, skip, styles, pool), skip, styles, pool)
        return x, self.to_rgb(x, styles, rgb)

    def forward_strips(
        self,
        x: torch.Tensor,
        read_skip: RowReader,
        styles: StyleCodes,
        rgb: torch.Tensor,
        strip_bytes: int | None,
        is_last: bool,
        pool: BufferPool,
        on_tick: TickCallback,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for one sample. Of the last level only the image is wanted, so its features are not kept: x comes
        back."""
        side, channels = 2 * x.shape[3], self.up.channels
        row_bytes = 2 * channels * side * x.element_size()
        rgb_weight = self.to_rgb.modulated_weight(styles)
        out = x if is_last else pool.get(f"features {side.bit_length() % 2}", (1, 2 * channels, side, side), x)
        rgb = self.to_rgb.upsample2x(rgb)
        spans = list(row_strips(side, row_bytes, strip_bytes))
        height = spans[0][1]
        upsample = UpsampleConvRows(self.up, styles)
        convolve = self.conv.make_convolution(styles, side, height, x, pool)
        conv_input = convolve.input_buffer(height + 3)  # the first is row top - 1
        conv_input[:, :, 0] = 0
        for top, bottom in spans:
            on_tick()
            first, ready = (top + 2 if top else 0), min(bottom + 2, side)  # rows that are new in the middle
            features = read_skip(top, ready)
            conv_out = upsample(x[:, :, (top + 4) // 2 if top else 0 : (bottom + 4) // 2])
            self.up.write_and_activate(
                conv_out, features[:, :, first - top :], conv_input[:, :, first - top + 1 : ready - top + 1]
            )
            if ready == side:
                conv_input[:, :, height + 1] = 0
            conv_output = pool.get("after", (1, 2 * channels, height, side), x) if is_last else out[:, :, top:bottom]
            convolve(conv_output[:, :channels])
            self.conv.activate(features[:, :, : bottom - top], conv_output)
            rgb[:, :, top:bottom] += F.conv2d(conv_output, rgb_weight).float()
            conv_input[:, :, :3] = conv_input[:, :, height:]
        return out, rgb

    def forward_whole(
        self, x: torch.Tensor, skip: torch.Tensor, styles: StyleCodes, rgb: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `forward` does for one sample on a GPU, where there are more features than weights."""
        conv_out = F.conv2d(x, self.up.fused_up_weight(styles), padding=1)
        x = self.up.finish(conv_out, skip)
        conv_out = F.conv2d(x, self.conv.modulated_weight(styles), padding=1)
        x = self.conv.finish(conv_out, skip)
        conv_out = F.conv2d(x, self.to_rgb.modulated_weight(styles))
        return x, self.to_rgb.add(conv_out, rgb)


class UpsampleConvRows:
    """The convolution that doubles the size, over the rows of x [1, I, S, S] as they come, from the first to the last.

    Row y of its output takes part in rows y / 2 - 1 to y / 2 + 1 of x. What the rows so far give of the next four is added
    to what the next ones give, as both the transposed convolution and the FIR are sums."""

    def __init__(self, up: StyledConv, styles: StyleCodes) -> None:
        self._up, self._weight = up, up.modulated_weight(styles)
        self._carry: torch.Tensor | None = None
        self._rows_read = 0

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The next rows [1, I, H, S] -> those rows of the output that are complete now and were not before."""
        conv_out = self._up.blur(F.conv_transpose2d(rows, self._weight, stride=2), (3, 1))  # from row 2 * taken - 2 on
        outside_rows = 2  # rows of it that are outside the image
        if self._carry is not None:
            conv_out[:, :, :4] += self._carry
            outside_rows = 0
        self._carry = conv_out[:, :, -4:] - self._up.bias[:, None, None]
        self._rows_read += rows.shape[2]
        is_last = self._rows_read == rows.shape[3]
        return conv_out[:, :, outside_rows : -2 if is_last else -4]

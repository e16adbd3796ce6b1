"""The encoder and decoder blocks of GPEN. Large levels are computed in strips of rows.

Styles apply to the whole image; every other operation reads only a few neighboring rows. Levels of 128x128 and larger are
therefore computed strip by strip. The activations between their layers then fit into the CPU's caches and are never stored
whole. The full-size features are recomputed from the image wherever they are needed, instead of being kept.
In the decoder, each strip continues from the one above: the rows at the seam are kept, not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from . import fused_fir
from .activation import SLOPE, is_dense_better, write_activated
from .buffer_pool import BufferPool
from .layers import SQRT2, StyleCodes, StyledConv, ToRGB, Weights, depthwise_fir, frozen_parameter

MIN_STRIP_ROWS = 8  # rows: thinner strips spend most of the time on their seams

RowReader = Callable[[int, int], torch.Tensor]
"""Returns rows a to b (b excluded) of feature maps as [B, C, b - a, W]."""
TickCallback = Callable[[], None]
"""Called every few hundredths of a second during the work. It stops the work by raising an exception."""


def row_strips(side: int, row_bytes: int, strip_bytes: int | None) -> Iterator[tuple[int, int]]:
    """Split `side` rows (a power of two) into strips of equal height.

    The height is the largest power of two whose rows fit into `strip_bytes` bytes, but at least `MIN_STRIP_ROWS`.
    Without a budget there is one strip."""
    height = side
    while strip_bytes is not None and height > MIN_STRIP_ROWS and height * row_bytes > strip_bytes:
        height //= 2
    return ((top, top + height) for top in range(0, side, height))


class StemBlock(nn.Module):
    """`ecd0`: a 1x1 convolution at full size, followed by the activation."""

    def __init__(self, sd: Weights, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd["ecd0.0.0.weight"]
        self.weight = frozen_parameter(weight, dtype, SQRT2 / weight[0].numel() ** 0.5)
        self.bias = frozen_parameter(sd["ecd0.0.1.bias"], dtype, SQRT2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, C, H, W]."""
        return F.leaky_relu_(F.conv2d(x, self.weight, self.bias), SLOPE)


class EncoderBlock(nn.Module):
    """`ecdN`: FIR filter (padding 2, 2), then a 3x3 convolution with stride 2 and the activation."""

    def __init__(self, sd: Weights, key: str, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd[f"{key}.0.1.weight"]
        self.channels, self.channels_in = weight.shape[:2]
        self.weight = frozen_parameter(weight, dtype, SQRT2 / weight[0].numel() ** 0.5)
        self.bias = frozen_parameter(sd[f"{key}.0.2.bias"], dtype, SQRT2)
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
        """Map [B, C, 2 * side, 2 * side], read in rows, to [B, C', side, side].

        The output has the batch size, dtype and memory format of `like`."""
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
            extra_rows = 2 * top - first if at_edge else 0  # drop the zero rows that padding added at the seam
            blurred = blurred[:, :, extra_rows : extra_rows + 2 * (bottom - top) + 1]
            conv_out = F.conv2d(blurred, self.weight, self.bias, stride=2)
            write_activated(conv_out, out[:, :, top:bottom], is_dense_better(out))
        return out

    def _forward_whole(self, x: torch.Tensor, side: int) -> torch.Tensor:
        """The FIR filter and the convolution on a GPU, without the bias."""
        if 2 * side <= fused_fir.MAX_BANDED_SIZE:
            return F.conv2d(fused_fir.apply_fir(x, 1.0, 2), self.weight, stride=2)
        return fused_fir.fused_down_conv(x, self.weight)

    def activate(self, conv_out: torch.Tensor) -> torch.Tensor:
        """Add the bias and apply the activation, in place."""
        return F.leaky_relu_(conv_out.add_(self.bias[:, None, None]), SLOPE)


class DecoderBlock(nn.Module):
    """Two styled convolutions, the first of which upsamples by 2, and the `ToRGB` layer of the level."""

    def __init__(self, sd: Weights, number: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = StyledConv(sd, f"generator.convs.{2 * number}", upsample=True, dtype=dtype)
        self.conv = StyledConv(sd, f"generator.convs.{2 * number + 1}", upsample=False, dtype=dtype)
        self.to_rgb = ToRGB(sd, f"generator.to_rgbs.{number}", dtype)

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor, styles: StyleCodes, rgb: torch.Tensor, pool: BufferPool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, I, S, S], skip [B, O, 2 * S, 2 * S], rgb [B, 3, S, S] -> features and RGB of twice the size."""
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
        """Do the same as `forward` for one sample, strip by strip.

        The last level needs only the RGB image, so its features are not kept and `x` is returned in their place."""
        side, channels = 2 * x.shape[3], self.up.channels
        row_bytes = 2 * channels * side * x.element_size()
        rgb_weight = self.to_rgb.modulated_weight(styles)
        out = x if is_last else pool.get(f"features {side.bit_length() % 2}", (1, 2 * channels, side, side), x)
        rgb = self.to_rgb.upsample2x(rgb)
        spans = list(row_strips(side, row_bytes, strip_bytes))
        height = spans[0][1]
        upsample = self.up.upsample_rows(x, styles)
        convolve = self.conv.make_convolution(styles, side, height, x, pool)
        conv_input = convolve.input_buffer(height + 3)  # starts at row top - 1
        conv_input[:, :, 0] = 0
        for top, bottom in spans:
            on_tick()
            first, ready = (
                (top + 2 if top else 0),
                min(bottom + 2, side),
            )  # rows that this strip adds between the two convolutions
            features = read_skip(top, ready)
            self.up.write(
                upsample(ready), features[:, :, first - top :], conv_input[:, :, first - top + 1 : ready - top + 1]
            )
            if ready == side:
                conv_input[:, :, height + 1] = 0
            conv_output = pool.get("after", (1, 2 * channels, height, side), x) if is_last else out[:, :, top:bottom]
            convolve(conv_output[:, :channels])
            self.conv.write_skip(features[:, :, : bottom - top], conv_output)
            rgb[:, :, top:bottom] += F.conv2d(conv_output, rgb_weight).float()
            conv_input[:, :, :3] = conv_input[:, :, height:]
        return out, rgb

    def forward_whole(
        self, x: torch.Tensor, skip: torch.Tensor, styles: StyleCodes, rgb: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the same as `forward` for one sample on a GPU, at levels with more features than weights."""
        conv_out = F.conv2d(x, self.up.fused_up_weight(styles), padding=1)
        x = self.up.finish(conv_out, skip)
        conv_out = F.conv2d(x, self.conv.modulated_weight(styles), padding=1)
        x = self.conv.finish(conv_out, skip)
        conv_out = F.conv2d(x, self.to_rgb.modulated_weight(styles))
        return x, self.to_rgb.add(conv_out, rgb)

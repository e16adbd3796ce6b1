"""The layers of GPEN, for inference only.

Constant factors are multiplied into the weights once, on loading: the equalized learning rate, the noise weight and the
activation's sqrt(2). The last is valid because leaky ReLU is homogeneous: sqrt(2) * lrelu(z) = lrelu(sqrt(2) * z).
Styles stay in float32; convolutions run in the dtype of their weights. Tensors are NCHW.

Formulas: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2.2 (equations 1 to 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import fused_fir, upsampling, winograd
from .activation import SLOPE, is_dense_better, write_activated
from .buffer_pool import BufferPool, empty_like_format
from .direct_conv import DirectConv
from .state_dict import fir_kernel

Weights = dict[str, torch.Tensor]
Convolve = Callable[[torch.Tensor, torch.Tensor, "torch.Tensor | None"], torch.Tensor]

SQRT2 = math.sqrt(2)
EPSILON = 1e-8
EDGE_GAIN = 0.75  # factor at the border of an image that was interpolated by 2, see `upsample_rgb`


def frozen_parameter(tensor: torch.Tensor, dtype: torch.dtype, factor: float = 1.0) -> nn.Parameter:
    """A copy times `factor`, without gradient. Four-dimensional tensors are stored in channels-last order."""
    order = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    copied = torch.empty_like(tensor, dtype=dtype, memory_format=order)
    torch.mul(tensor.detach().float(), factor, out=copied)  # in one pass: new memory costs more than the product
    return nn.Parameter(copied, requires_grad=False)


def depthwise_fir(gain: float, channels: int) -> torch.Tensor:
    return fir_kernel(gain).repeat(channels, 1, 1, 1)  # [C, 1, 4, 4]


class EqualLinear(nn.Module):
    """A linear layer, [B, in] -> [B, out] in float32. With `activate` it applies `sqrt(2) * leaky_relu(., 0.2)`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, lr_mul: float = 1.0, activate: bool = True) -> None:
        super().__init__()
        gain = lr_mul * (SQRT2 if activate else 1.0)
        self.weight = frozen_parameter(weight, torch.float32, gain / math.sqrt(weight.shape[1]))
        self.bias = frozen_parameter(bias, torch.float32, gain)
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.linear(x, self.weight, self.bias)
        return F.leaky_relu_(out, SLOPE) if self.activate else out


@dataclass(frozen=True)
class StyleCodes:
    """The styles of all modulated layers, concatenated."""

    style: torch.Tensor
    """[B, ...]: a factor for each input channel of each layer."""
    scale: torch.Tensor
    """[B, ...]: a factor for each output channel of each demodulated layer."""

    def sample(self, number: int) -> StyleCodes:
        return StyleCodes(self.style[number : number + 1], self.scale[number : number + 1])


class Modulation(nn.Module):
    """Modulation and demodulation of one layer: a factor per input channel and one per output channel.

    `Modulations` computes them."""

    def __init__(self, sd: Weights, key: str, demodulate: bool) -> None:
        super().__init__()
        weight = sd[f"{key}.weight"][0]  # [O, I, k, k]
        self.affine = (sd[f"{key}.modulation.weight"], sd[f"{key}.modulation.bias"])
        energy = weight.float().flatten(2).square().sum(2) if demodulate else None  # [O, I]
        self.energy = None if energy is None else frozen_parameter(energy, torch.float32, 1 / weight[0].numel())
        self.inputs = self.outputs = slice(0, 0)

    def forward(self, styles: StyleCodes) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The style [B, I] of this layer and, if it demodulates, the output scale [B, O]."""
        style = styles.style[:, self.inputs]
        return style, None if self.energy is None else styles.scale[:, self.outputs]


class Modulations(nn.Module):
    """The affine layers of all modulations, merged into one. A GPU takes longer to launch each than to compute it."""

    def __init__(self, modulations: Sequence[Modulation]) -> None:
        """Moves the affine layers out of `modulations`. Layers that demodulate get the gain sqrt(2)."""
        super().__init__()
        weights, biases = zip(*(one.affine for one in modulations))
        self.affine = EqualLinear(torch.cat(weights), torch.cat(biases), activate=False)
        self._demodulated: list[Modulation] = []
        inputs = outputs = 0
        for one, weight in zip(modulations, weights):
            del one.affine
            one.inputs = slice(inputs, inputs + len(weight))
            inputs = one.inputs.stop
            if one.energy is not None:
                one.outputs = slice(outputs, outputs + len(one.energy))
                outputs = one.outputs.stop
                self._demodulated.append(one)

    def forward(self, w: torch.Tensor) -> StyleCodes:
        """The latent [B, 512] in float32 -> the styles of all layers."""
        style = self.affine(w)
        power = style.square()
        sums = [F.linear(power[:, one.inputs], one.energy) for one in self._demodulated if one.energy is not None]
        return StyleCodes(style, SQRT2 * torch.rsqrt(torch.cat(sums, 1) + EPSILON))


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    style: torch.Tensor,
    out_scale: torch.Tensor | None,
    convolve: Convolve,
    out_axis: int,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Convolve each sample with its modulated and demodulated weights, without a grouped convolution.

    `style` [B, I] and `out_scale` [B, O] are multiplied into the activations or the weights, whichever are smaller. The
    former needs one convolution for the whole batch, the latter one per sample.
    """
    if x.numel() <= weight.numel():
        out = convolve(x * style.to(x.dtype)[:, :, None, None], weight, None)
        if out_scale is not None:
            out = out.mul_(out_scale.to(out.dtype)[:, :, None, None])
        return out if bias is None else out.add_(bias[:, None, None])
    samples = []
    for n in range(len(x)):
        sample_weight = modulated_weight(weight, style[n], None if out_scale is None else out_scale[n], out_axis)
        samples.append(convolve(x[n : n + 1], sample_weight.to(weight.dtype), bias))
    return samples[0] if len(samples) == 1 else torch.cat(samples)


def modulated_weight(
    weight: torch.Tensor,
    style: torch.Tensor,
    out_scale: torch.Tensor | None,
    out_axis: int,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weights of one sample in float32: multiplied by its style [I] and, if demodulated, its scale [O].

    `out_axis` is the axis of the output channels. If `out` is given, the result is written into it."""
    in_shape, out_shape = [1, 1, 1, 1], [1, 1, 1, 1]
    in_shape[1 - out_axis] = out_shape[out_axis] = -1
    scaled = torch.mul(weight, style.view(in_shape), out=out)  # float32, as the style is
    return scaled if out_scale is None else scaled.mul_(out_scale.view(out_shape))


class StyledConv(nn.Module):
    """A modulated 3x3 convolution. The encoder's features of the level are concatenated, then both halves are activated.

    With `upsample` the convolution is transposed with stride 2, and the FIR filter with padding (1, 1) and gain 4 follows.
    """

    def __init__(self, sd: Weights, key: str, upsample: bool, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd[f"{key}.conv.weight"][0]  # [O, I, 3, 3]
        self.channels = weight.shape[0]
        bias = sd[f"{key}.activate.bias"].float() * SQRT2
        gain = 1 / math.sqrt(weight[0].numel())
        self.uses_phases = upsample and upsampling.use_phases(weight, dtype)
        if self.uses_phases:
            self.even_rows, self.odd_rows = (frozen_parameter(w, dtype, gain) for w in upsampling.phase_weights(weight))
        else:
            self.kernel = frozen_parameter(weight.transpose(0, 1) if upsample else weight, dtype, gain)
        self.modulation = Modulation(sd, f"{key}.conv", demodulate=True)
        self.bias = frozen_parameter(bias[: self.channels], dtype)
        self.skip_bias = frozen_parameter(bias[self.channels :].view(1, -1, 1, 1), dtype)
        self.skip_gain = float(sd[f"{key}.noise.weight"]) * SQRT2
        self.fir = frozen_parameter(depthwise_fir(4.0, self.channels), dtype) if upsample else None

    @property
    def weight(self) -> torch.Tensor:
        """[O, I, 3, 3], or [I, O, 3, 3] if it upsamples."""
        return upsampling.transposed_weight(self.even_rows, self.odd_rows) if self.uses_phases else self.kernel

    def forward(self, x: torch.Tensor, skip: torch.Tensor, styles: StyleCodes, pool: BufferPool) -> torch.Tensor:
        """x [B, I, S, S], skip [B, O, S', S'] and the styles -> [B, 2 * O, S', S']. S' is 2 * S if it upsamples, else S."""
        if fused_fir.is_supported(skip):
            return self.finish(self._conv_gpu(x, styles), skip)
        batch, channels, height, width = skip.shape
        out = empty_like_format((batch, 2 * channels, height, width), skip)
        if self.fir is None and winograd.is_faster(self.weight, height):
            for n in range(batch):
                self._conv_winograd(x[n : n + 1], styles.sample(n), out[n : n + 1, :channels], pool)
        else:
            write_activated(self._conv_torch(x, styles), out[:, :channels], is_dense_better(skip))
        self.write_skip(skip, out)
        return out

    def _conv_winograd(self, x: torch.Tensor, styles: StyleCodes, out: torch.Tensor, pool: BufferPool) -> None:
        side = x.shape[2]
        convolve = self.make_convolution(styles, side, side, x, pool)
        rows = convolve.input_buffer(side + 2)
        rows[:, :, 0] = 0
        rows[:, :, -1] = 0
        rows[:, :, 1:-1].copy_(winograd.split_width(x))
        convolve(out)

    def _conv_torch(self, x: torch.Tensor, styles: StyleCodes) -> torch.Tensor:
        style, out_scale = self.modulation(styles)
        if self.fir is None:
            return modulated_conv2d(x, self.weight, style, out_scale, _conv3x3, 0, self.bias)
        if self.uses_phases:
            scaled = F.pad(x * style.to(x.dtype)[:, :, None, None], (0, 0, 1, 1))
            out = upsampling.conv_phases(scaled, (self.even_rows, self.odd_rows), self.fir, None)
            return out.mul_(out_scale.to(out.dtype)[:, :, None, None]).add_(self.bias[:, None, None])
        conv_out = modulated_conv2d(x, self.weight, style, out_scale, _conv3x3_up, 1)  # [B, O, 2 * S + 1, 2 * S + 1]
        return F.conv2d(conv_out, self.fir, self.bias, padding=1, groups=self.channels)

    def _conv_gpu(self, x: torch.Tensor, styles: StyleCodes) -> torch.Tensor:
        """The convolution on a GPU, without the bias."""
        style, out_scale = self.modulation(styles)
        if self.fir is None:
            return modulated_conv2d(x, self.weight, style, out_scale, _conv3x3, 0)
        return fused_fir.apply_fir(modulated_conv2d(x, self.weight, style, out_scale, _conv3x3_up, 1), 4.0, 1)

    def modulated_weight(self, styles: StyleCodes, out: torch.Tensor | None = None) -> torch.Tensor:
        """The modulated and demodulated weights for the styles of one sample, written into `out` if it is given."""
        style, out_scale = self.modulation(styles)
        scaled = modulated_weight(self.weight, style[0], out_scale[0], 0 if self.fir is None else 1, out)
        return scaled.to(self.weight.dtype)

    def fused_up_weight(self, styles: StyleCodes) -> torch.Tensor:
        """The same weights with the FIR filter folded in, for a layer that upsamples. See `fused_fir.fused_up_weight`."""
        style, out_scale = self.modulation(styles)
        return fused_fir.fused_up_weight(modulated_weight(self.weight, style[0], out_scale[0], 1), self.weight.dtype)

    def upsample_rows(self, x: torch.Tensor, styles: StyleCodes) -> upsampling.RowUpsampler:
        """The upsampling convolution over x [1, I, S, S], some rows at a time."""
        assert self.fir is not None
        if self.uses_phases:
            style, out_scale = self.modulation(styles)
            even, odd = (
                modulated_weight(rows, style[0], out_scale[0].repeat(2), 0).to(rows.dtype)
                for rows in (self.even_rows, self.odd_rows)
            )
            return upsampling.PhaseRows(x, (even, odd), self.fir, self.bias)
        if x.device.type == "cpu" and upsampling.has_fast_convolutions(x.dtype):
            return upsampling.SquareRows(x, self.fused_up_weight(styles), self.bias)
        return upsampling.CarriedRows(x, self.modulated_weight(styles), self.fir, self.bias)

    def make_convolution(
        self, styles: StyleCodes, width: int, height: int, like: torch.Tensor, pool: BufferPool
    ) -> DirectConv | winograd.WinogradConv:
        """The 3x3 convolution for one sample, over `height` rows at a time."""
        if not winograd.is_faster(self.weight, width):
            return DirectConv(self.modulated_weight(styles), self.bias, width, like, pool)
        weight_buffer = winograd.weight_buffer(self.weight, pool)
        filters = winograd.transform_weights(self.modulated_weight(styles, weight_buffer), pool)
        return winograd.WinogradConv(filters, self.bias, width, height, pool)

    def write(self, conv_out: torch.Tensor, skip: torch.Tensor, out: torch.Tensor) -> None:
        """Activate the convolution's output and the skip features [B, O, H, W], and concatenate them in `out`.

        `out` is [B, 2 * O, H, W] or [..., W / 4, 4]. `conv_out` is [B, O, H, W] or, in 2x2 squares,
        [B, 4 * O, H / 2, W / 2]."""
        first, dense = out[:, : self.channels], is_dense_better(skip)
        if conv_out.shape[1] != self.channels:
            conv_out, first = (fused_fir.pixel_shuffle_view(x, self.channels) for x in (conv_out, out))
        elif out.ndim == 5:
            conv_out, skip = winograd.split_width(conv_out), winograd.split_width(skip)
        write_activated(conv_out, first, dense)
        self.write_skip(skip, out)

    def finish(self, conv_out: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Concatenate the convolution's output and the skip features [B, O, H, W] on a GPU, and activate both.

        `conv_out` is without its bias: [B, O, H, W], or [B, 4 * O, H / 2, W / 2] in 2x2 squares after `fused_up_weight`.
        Returns [B, 2 * O, H, W]."""
        batch, channels, height, width = skip.shape
        out = empty_like_format((batch, 2 * channels, height, width), skip)
        if conv_out.shape[1] == channels:
            torch.add(conv_out, self.bias[:, None, None], out=out[:, :channels])
        else:
            torch.add(
                fused_fir.pixel_shuffle_view(conv_out, channels), self.bias, out=fused_fir.pixel_shuffle_view(out, channels)
            )
        torch.add(self.skip_bias, skip, alpha=self.skip_gain, out=out[:, channels:])
        return F.leaky_relu_(out, SLOPE)

    def finish_fused(self, conv_out: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """`finish`, written so that torch.compile fuses it into one kernel."""
        if conv_out.shape[1] != self.channels:
            batch, channels, height, width = skip.shape
            conv_out = (
                fused_fir.pixel_shuffle_view(conv_out, channels).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
            )
        first, second = conv_out + self.bias[:, None, None], self.skip_bias + skip * self.skip_gain
        return F.leaky_relu(torch.cat((first, second), 1), SLOPE)

    def write_skip(self, skip: torch.Tensor, out: torch.Tensor) -> None:
        """Activate the skip features [B, O, H, ...] and write them into the second half of `out` [B, 2 * O, H, ...]."""
        second, bias = out[:, self.channels :], self.skip_bias.view(1, -1, *(1 for _ in skip.shape[2:]))
        if is_dense_better(skip):
            row = bias.expand(1, -1, 1, skip.shape[3]).contiguous(memory_format=torch.channels_last)
            write_activated(torch.add(row, skip, alpha=self.skip_gain), second, dense=True)
        else:
            F.leaky_relu_(torch.add(bias, skip, alpha=self.skip_gain, out=second), SLOPE)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to RGB without demodulation, plus the upsampled RGB of the previous level, in float32."""

    def __init__(self, sd: Weights, key: str, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd[f"{key}.conv.weight"][0]  # [3, I, 1, 1]
        self.weight = frozen_parameter(weight, dtype, 1 / math.sqrt(weight[0].numel()))
        self.modulation = Modulation(sd, f"{key}.conv", demodulate=False)
        self.bias = frozen_parameter(sd[f"{key}.bias"].float().view(3), torch.float32)

    def forward(self, x: torch.Tensor, styles: StyleCodes, prev_rgb: torch.Tensor | None) -> torch.Tensor:
        """x [B, I, S, S] and the previous RGB [B, 3, S / 2, S / 2] -> [B, 3, S, S] in float32."""
        style, _ = self.modulation(styles)
        return self.add(modulated_conv2d(x, self.weight, style, None, _conv1x1, 0), prev_rgb)

    def add(self, conv_out: torch.Tensor, prev_rgb: torch.Tensor | None) -> torch.Tensor:
        """Add the bias and the upsampled previous RGB to the convolution's output [B, 3, S, S]. Returns float32."""
        rgb = conv_out.float().add_(self.bias[:, None, None])
        return rgb if prev_rgb is None else rgb.add_(upsample_rgb(prev_rgb))

    def add_fused(self, conv_out: torch.Tensor, prev_rgb: torch.Tensor | None) -> torch.Tensor:
        """`add`, written so that torch.compile fuses it into one kernel."""
        rgb = conv_out.float() + self.bias[:, None, None]
        if prev_rgb is None:
            return rgb
        positions = torch.arange(conv_out.shape[2], device=conv_out.device)
        share = torch.where((positions == 0) | (positions == conv_out.shape[2] - 1), EDGE_GAIN, 1.0)
        upsampled = F.interpolate(prev_rgb, scale_factor=2, mode="bilinear", align_corners=False)
        return rgb + upsampled * share[:, None] * share

    def modulated_weight(self, styles: StyleCodes) -> torch.Tensor:
        """The modulated weights for the styles of one sample."""
        style, _ = self.modulation(styles)
        return modulated_weight(self.weight, style[0], None, out_axis=0).to(self.weight.dtype)

    def upsample2x(self, prev_rgb: torch.Tensor) -> torch.Tensor:
        """Upsample the previous RGB, [B, 3, S / 2, S / 2] -> [B, 3, S, S], and add the bias.

        The caller adds the convolution's output."""
        return upsample_rgb(prev_rgb).add_(self.bias[:, None, None])


def upsample_rgb(rgb: torch.Tensor) -> torch.Tensor:
    """Upsample by zero insertion and the FIR filter with gain 4 and padding (2, 1), in NCHW order.

    [B, 3, S, S] -> [B, 3, 2 * S, 2 * S]. The filter [1, 3, 3, 1] / 4 at stride 2 is bilinear interpolation by 2 of an image
    with zeros around it. `interpolate` repeats the border pixels instead, so the border is scaled by 3/4.
    """
    upsampled = F.interpolate(rgb.contiguous(), scale_factor=2, mode="bilinear", align_corners=False)
    for edge in (upsampled[:, :, 0], upsampled[:, :, -1], upsampled[:, :, :, 0], upsampled[:, :, :, -1]):
        edge.mul_(EDGE_GAIN)
    return upsampled


def _conv3x3(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def _conv3x3_up(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return F.conv_transpose2d(x, weight, bias, stride=2)


def _conv1x1(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return F.conv2d(x, weight, bias)

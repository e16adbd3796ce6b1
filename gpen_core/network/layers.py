"""The layers of GPEN in their inference form.

What the formulas multiply at every call is multiplied once, when the weights are taken in: the equalized-learning-rate
factors, the activation's sqrt(2) (leaky ReLU is positively homogeneous: sqrt(2) * lrelu(z) = lrelu(sqrt(2) * z)) and the
noise weight. Styles stay in float32; convolutions run in the dtype of their weights. Tensors are NCHW.

Formulas: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2.2 (equations 1 to 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import fused_fir, winograd
from .buffer_pool import BufferPool, empty_like_format
from .state_dict import fir_kernel

Weights = dict[str, torch.Tensor]
Convolve = Callable[[torch.Tensor, torch.Tensor, "torch.Tensor | None"], torch.Tensor]

SQRT2 = math.sqrt(2)
SLOPE = 0.2
EPSILON = 1e-8
EDGE_GAIN = 0.75  # of an image interpolated by two, at its border
VECTOR_BYTES = 64  # of a pixel's channels: with fewer, the CPU adds one by one, and a row at a time is 4 times faster


def frozen_parameter(tensor: torch.Tensor, dtype: torch.dtype) -> nn.Parameter:
    """A copy that owns its memory, in channels-last order where that has a meaning."""
    copied = tensor.detach().to(dtype, copy=True)
    if copied.ndim == 4:
        copied = copied.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(copied, requires_grad=False)


def depthwise_fir(gain: float, channels: int) -> torch.Tensor:
    return fir_kernel(gain).repeat(channels, 1, 1, 1)  # [C, 1, 4, 4]


class EqualLinear(nn.Module):
    """Linear layer, then `sqrt(2) * leaky_relu(., 0.2)` where `activate`; [B, in] -> [B, out], float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, lr_mul: float = 1.0, activate: bool = True) -> None:
        super().__init__()
        gain = lr_mul * (SQRT2 if activate else 1.0)
        self.weight = frozen_parameter(weight.float() * (gain / math.sqrt(weight.shape[1])), torch.float32)
        self.bias = frozen_parameter(bias.float() * gain, torch.float32)
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.linear(x, self.weight, self.bias)
        return F.leaky_relu_(out, SLOPE) if self.activate else out


@dataclass(frozen=True)
class StyleCodes:
    """What the latent says to every modulated layer, one behind the other."""

    style: torch.Tensor
    """[B, ...]: a factor for each layer's input channels."""
    scale: torch.Tensor
    """[B, ...]: one for each demodulated layer's output channels."""

    def sample(self, number: int) -> StyleCodes:
        return StyleCodes(self.style[number : number + 1], self.scale[number : number + 1])


class Modulation(nn.Module):
    """A style per input channel and what it does to the size of each output channel. See `Modulations`."""

    def __init__(self, sd: Weights, key: str, demodulate: bool) -> None:
        super().__init__()
        weight = sd[f"{key}.weight"][0].float() / math.sqrt(sd[f"{key}.weight"][0, 0].numel())  # [O, I, k, k]
        self.affine = (sd[f"{key}.modulation.weight"], sd[f"{key}.modulation.bias"])
        self.energy = frozen_parameter(weight.square().sum((2, 3)), torch.float32) if demodulate else None  # [O, I]
        self.inputs = self.outputs = slice(0, 0)

    def forward(self, styles: StyleCodes) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Its style [B, I] and, where demodulated, the output scale [B, O]."""
        style = styles.style[:, self.inputs]
        return style, None if self.energy is None else styles.scale[:, self.outputs]


class Modulations(nn.Module):
    """The affine layers of all modulations as one: a GPU takes longer to be told of each than to compute it."""

    def __init__(self, modulations: Sequence[Modulation]) -> None:
        """Takes their affine layers over. Those that demodulate have the gain sqrt(2)."""
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
        """[B, 512], float32."""
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
    """`convolve` with the modulated and demodulated weights of each sample, without a grouped convolution.

    `style` [B, I] and `out_scale` [B, O] are multiplied into whichever is smaller: the activations (one convolution for
    the whole batch) or the weights (one convolution per sample).
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
    """One sample's weights in float32: times its style [I] and, where demodulated, its scale [O], which lies along
    `out_axis`. They are written into `out`, where there is one."""
    in_shape, out_shape = [1, 1, 1, 1], [1, 1, 1, 1]
    in_shape[1 - out_axis] = out_shape[out_axis] = -1
    scaled = torch.mul(weight, style.view(in_shape), out=out)  # float32, as the style is
    return scaled if out_scale is None else scaled.mul_(out_scale.view(out_shape))


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, the encoder's features of that level behind it, activation over both halves.

    With `upsample` the convolution is transposed with stride 2 and followed by the FIR with pad (1, 1) and gain 4.
    """

    def __init__(self, sd: Weights, key: str, upsample: bool, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd[f"{key}.conv.weight"][0].float()  # [O, I, 3, 3]
        weight = weight / math.sqrt(weight[0].numel())
        self.channels = weight.shape[0]
        bias = sd[f"{key}.activate.bias"].float() * SQRT2
        self.weight = frozen_parameter(weight.transpose(0, 1) if upsample else weight, dtype)
        self.modulation = Modulation(sd, f"{key}.conv", demodulate=True)
        self.bias = frozen_parameter(bias[: self.channels], dtype)
        self.skip_bias = frozen_parameter(bias[self.channels :].view(1, -1, 1, 1), dtype)
        self.skip_gain = float(sd[f"{key}.noise.weight"]) * SQRT2
        self.fir = frozen_parameter(depthwise_fir(4.0, self.channels), dtype) if upsample else None

    def forward(self, x: torch.Tensor, skip: torch.Tensor, styles: StyleCodes, pool: BufferPool) -> torch.Tensor:
        """x [B, I, S, S], level [B, O, S', S'], the styles -> [B, 2 * O, S', S'] with S' = 2 * S where upsampling."""
        if fused_fir.is_supported(skip):
            return self.finish(self._conv_gpu(x, styles), skip)
        batch, channels, height, width = skip.shape
        out = empty_like_format((batch, 2 * channels, height, width), skip)
        if self.fir is None and winograd.is_faster(self.weight, height):
            for n in range(batch):
                self._conv_winograd(x[n : n + 1], styles.sample(n), out[n : n + 1, :channels], pool)
        else:
            out[:, :channels].copy_(self._conv_torch(x, styles))
        self.activate(skip, out)
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
        conv_out = modulated_conv2d(x, self.weight, style, out_scale, _conv3x3_up, 1)  # [B, O, 2 * S + 1, 2 * S + 1]
        return self.blur(conv_out, (1, 1))

    def _conv_gpu(self, x: torch.Tensor, styles: StyleCodes) -> torch.Tensor:
        """The same without the bias."""
        style, out_scale = self.modulation(styles)
        if self.fir is None:
            return modulated_conv2d(x, self.weight, style, out_scale, _conv3x3, 0)
        return fused_fir.apply_fir(modulated_conv2d(x, self.weight, style, out_scale, _conv3x3_up, 1), 4.0, 1)

    def blur(self, x: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        """The FIR after the transposed convolution, and the bias."""
        assert self.fir is not None
        return F.conv2d(x, self.fir, self.bias, padding=padding, groups=self.channels)

    def modulated_weight(self, styles: StyleCodes, out: torch.Tensor | None = None) -> torch.Tensor:
        """The modulated and demodulated weights for one sample's styles, written into `out` where there is one."""
        style, out_scale = self.modulation(styles)
        scaled = modulated_weight(self.weight, style[0], out_scale[0], 0 if self.fir is None else 1, out)
        return scaled.to(self.weight.dtype)

    def fused_up_weight(self, styles: StyleCodes) -> torch.Tensor:
        """For one that upsamples: the same with the FIR in it, see `fused_fir.fused_up_weight`."""
        style, out_scale = self.modulation(styles)
        return fused_fir.fused_up_weight(modulated_weight(self.weight, style[0], out_scale[0], 1), self.weight.dtype)

    def make_convolution(
        self, styles: StyleCodes, width: int, height: int, like: torch.Tensor, pool: BufferPool
    ) -> DirectConv | winograd.WinogradConv:
        """The 3x3 convolution for one face, over `height` rows at a time."""
        if not winograd.is_faster(self.weight, width):
            return DirectConv(self.modulated_weight(styles), self.bias, width, like, pool)
        weight_buffer = winograd.weight_buffer(self.weight, pool)
        filters = winograd.transform_weights(self.modulated_weight(styles, weight_buffer), pool)
        return winograd.WinogradConv(filters, self.bias, width, height, pool)

    def write_and_activate(self, conv_out: torch.Tensor, skip: torch.Tensor, out: torch.Tensor) -> None:
        """Writes the convolution's output [B, O, H, W] into `out` [B, 2 * O, H, W], or [..., W / 4, 4], and goes on as
        `activate`."""
        if out.ndim == 5:
            conv_out, skip = winograd.split_width(conv_out), winograd.split_width(skip)
        out[:, : self.channels].copy_(conv_out)
        self.activate(skip, out)

    def finish(self, conv_out: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """On a GPU: the convolution's output without its bias and the level's features [B, O, H, W] behind it, both
        activated: [B, 2 * O, H, W]. `conv_out` is [B, O, H, W], or after `fused_up_weight` of 2x2 squares,
        [B, 4 * O, H / 2, W / 2]."""
        batch, channels, height, width = skip.shape
        out = empty_like_format((batch, 2 * channels, height, width), skip)
        if conv_out.shape[1] == channels:
            torch.add(conv_out, self.bias[:, None, None], out=out[:, :channels])
        else:
            torch.add(
                fused_fir.pixel_shuffle_view(conv_out, channels), self.bias, out=fused_fir.pixel_shuffle_view(out, channels)
            )
        self.activate(skip, out)
        return out

    def finish_fused(self, conv_out: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """`finish` as torch.compile makes one kernel of it."""
        if conv_out.shape[1] != self.channels:
            batch, channels, height, width = skip.shape
            conv_out = (
                fused_fir.pixel_shuffle_view(conv_out, channels).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
            )
        first, second = conv_out + self.bias[:, None, None], self.skip_bias + skip * self.skip_gain
        return F.leaky_relu(torch.cat((first, second), 1), SLOPE)

    def activate(self, skip: torch.Tensor, out: torch.Tensor) -> None:
        """Writes the level's features [B, O, H, ...] with their bias behind the convolution's output in `out`
        [B, 2 * O, H, ...] and activates both."""
        second = out[:, self.channels :]
        bias = self.skip_bias.view(1, -1, *(1 for _ in skip.shape[2:]))
        if skip.device.type == "cpu" and self.channels * skip.element_size() < VECTOR_BYTES:
            row = bias.expand(1, -1, 1, skip.shape[3]).contiguous(memory_format=torch.channels_last)
            second.copy_(torch.add(row, skip, alpha=self.skip_gain))
        else:
            torch.add(bias, skip, alpha=self.skip_gain, out=second)
        F.leaky_relu_(out, SLOPE)


class DirectConv:
    """A 3x3 convolution with one face's weights, as torch has it, over images of one width."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, width: int, like: torch.Tensor, pool: BufferPool) -> None:
        self._weight, self._bias, self._width, self._like, self._pool = weight, bias, width, like, pool

    def input_buffer(self, height: int) -> torch.Tensor:
        """Room for the next input, to be filled: [1, I, height, W]."""
        shape = (1, self._weight.shape[1], height, self._width)
        self._input = self._pool.get("middle", shape, self._like)
        return self._input

    def __call__(self, out: torch.Tensor) -> None:
        """Writes the convolution of what was filled in, H + 2 rows, with the bias into `out` [1, O, H, W]."""
        rows = self._input[:, :, : out.shape[2] + 2]
        out.copy_(F.conv2d(rows, self._weight, self._bias, padding=(0, 1)))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation to RGB in float32, plus the RGB below, upsampled."""

    def __init__(self, sd: Weights, key: str, dtype: torch.dtype) -> None:
        super().__init__()
        weight = sd[f"{key}.conv.weight"][0].float()  # [3, I, 1, 1]
        self.weight = frozen_parameter(weight / math.sqrt(weight[0].numel()), dtype)
        self.modulation = Modulation(sd, f"{key}.conv", demodulate=False)
        self.bias = frozen_parameter(sd[f"{key}.bias"].float().view(3), torch.float32)

    def forward(self, x: torch.Tensor, styles: StyleCodes, prev_rgb: torch.Tensor | None) -> torch.Tensor:
        """x [B, I, S, S], below [B, 3, S / 2, S / 2] -> [B, 3, S, S], float32."""
        style, _ = self.modulation(styles)
        return self.add(modulated_conv2d(x, self.weight, style, None, _conv1x1, 0), prev_rgb)

    def add(self, conv_out: torch.Tensor, prev_rgb: torch.Tensor | None) -> torch.Tensor:
        """The convolution's output [B, 3, S, S] without its bias -> the image so far, float32."""
        rgb = conv_out.float().add_(self.bias[:, None, None])
        return rgb if prev_rgb is None else rgb.add_(upsample_rgb(prev_rgb))

    def add_fused(self, conv_out: torch.Tensor, prev_rgb: torch.Tensor | None) -> torch.Tensor:
        """`add` as torch.compile makes one kernel of it."""
        rgb = conv_out.float() + self.bias[:, None, None]
        if prev_rgb is None:
            return rgb
        positions = torch.arange(conv_out.shape[2], device=conv_out.device)
        share = torch.where((positions == 0) | (positions == conv_out.shape[2] - 1), EDGE_GAIN, 1.0)
        upsampled = F.interpolate(prev_rgb, scale_factor=2, mode="bilinear", align_corners=False)
        return rgb + upsampled * share[:, None] * share

    def modulated_weight(self, styles: StyleCodes) -> torch.Tensor:
        """The modulated weights for one sample's styles."""
        style, _ = self.modulation(styles)
        return modulated_weight(self.weight, style[0], None, out_axis=0).to(self.weight.dtype)

    def upsample2x(self, prev_rgb: torch.Tensor) -> torch.Tensor:
        """The image [B, 3, S / 2, S / 2] -> [B, 3, S, S], to which the convolution's output is still to be added."""
        return upsample_rgb(prev_rgb).add_(self.bias[:, None, None])


def upsample_rgb(rgb: torch.Tensor) -> torch.Tensor:
    """Zero insertion and the FIR with gain 4 and pad (2, 1): [B, 3, S, S] -> [B, 3, 2 * S, 2 * S], in NCHW order.

    [1, 3, 3, 1] / 4 at stride 2 is bilinear interpolation by 2 over an image with a border of zeros. Interpolation repeats
    the border instead, so there a quarter is too much.
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

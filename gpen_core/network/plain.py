"""GPEN as a plain module for exporters: every operator has an ONNX form, and the batch's size may stay free.

The module `gpen` computes the same in strips, with kernels made for each device. Here a style multiplies the features before
a convolution and the demodulation multiplies them after it, so that all faces of a batch have the same kernels. The formulas
are those of `layers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from .activation import SLOPE
from .config import STYLE_DIM, STYLE_LAYERS, GPENConfig
from .layers import EPSILON, SQRT2
from .state_dict import fir_kernel

STYLE_LR = 0.01


class PlainGPEN(nn.Module):
    """[B, 3, S, S] RGB in [-1, 1], float32 -> the same shape, not clipped.

    Its parameters have the released names and values. Convolutions compute in `dtype`, styles and RGB sums in float32."""

    def __init__(
        self, state_dict: Mapping[str, torch.Tensor], config: GPENConfig, dtype: torch.dtype = torch.float32
    ) -> None:
        """`state_dict` is complete, as `validate_state_dict` gives it."""
        super().__init__()
        self.config, self.dtype = config, dtype
        for key, tensor in state_dict.items():
            if not key.endswith(".kernel"):
                _add_parameter(self, key, tensor.detach().to(self._stored_type(key, tensor)))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = self._encode(x.to(self.dtype))
        styles = self._styles(skips[-1].float())
        h = self._styled_conv("generator.conv1", self._get("generator.input.input"), skips.pop(), styles)
        rgb = self._to_rgb("generator.to_rgb1", h, styles)
        for n in range(self.config.levels):
            skip = skips.pop()
            h = self._styled_conv(f"generator.convs.{2 * n}", h, skip, styles, upsample=True)
            h = self._styled_conv(f"generator.convs.{2 * n + 1}", h, skip, styles)
            rgb = _upsample(rgb) + self._to_rgb(f"generator.to_rgbs.{n}", h, styles)
        return rgb

    def _stored_type(self, key: str, tensor: torch.Tensor) -> torch.dtype:
        """Only kernels are many enough to be kept in half precision."""
        is_kernel = tensor.ndim >= 4 and key.endswith("weight")
        return self.dtype if is_kernel else torch.float32

    def _get(self, key: str) -> torch.Tensor:
        return self.get_parameter(key)

    def _kernel(self, key: str) -> torch.Tensor:
        """[O, I, K, K] in float32, times its factor."""
        weight = self._get(key).float().flatten(0, -4)
        return weight / math.sqrt(weight[0].numel())

    def _linear(self, key: str, x: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
        weight = self._get(f"{key}.weight")
        return F.linear(x, weight * (rate / math.sqrt(weight.shape[1])), self._get(f"{key}.bias") * rate)

    def _encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The features of the full size, of half of it, ... 4x4."""
        skips: list[torch.Tensor] = []
        for n in range(self.config.levels + 1):
            kernel = self._kernel(f"ecd{n}.0.{int(n > 0)}.weight").to(self.dtype)
            x = F.conv2d(_blur(skips[-1], 2, 1.0), kernel, stride=2) if n else F.conv2d(x, kernel)
            skips.append(self._activate(x, f"ecd{n}.0.{1 + int(n > 0)}.bias"))
        return skips

    def _activate(self, x: torch.Tensor, bias: str) -> torch.Tensor:
        return F.leaky_relu(x + self._get(bias).to(self.dtype).view(1, -1, 1, 1), SLOPE) * SQRT2

    def _styles(self, smallest: torch.Tensor) -> torch.Tensor:
        """[B, C, 4, 4] -> [B, 512]"""
        w = self._linear("final_linear.0", smallest.reshape(-1, 16 * smallest.shape[1]))
        w = F.leaky_relu(w, SLOPE) * SQRT2
        w = w * torch.rsqrt(w.square().mean(1, keepdim=True) + EPSILON)
        for n in range(1, STYLE_LAYERS + 1):
            w = F.leaky_relu(self._linear(f"generator.style.{n}", w, STYLE_LR), SLOPE) * SQRT2
        return w.reshape(-1, STYLE_DIM)

    def _styled_conv(
        self, key: str, x: torch.Tensor, skip: torch.Tensor, styles: torch.Tensor, upsample: bool = False
    ) -> torch.Tensor:
        """x [B, I, S, S], skip [B, O, S', S'] -> [B, 2 * O, S', S'] with S' = 2 * S where upsampling."""
        style = self._linear(f"{key}.conv.modulation", styles)
        kernel = self._kernel(f"{key}.conv.weight")
        scale = torch.rsqrt(F.linear(style.square(), kernel.square().sum((2, 3))) + EPSILON)
        x = (x * style[:, :, None, None]).to(self.dtype)
        kernel = kernel.to(self.dtype)
        if upsample:
            x = _blur(F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2), 1, 4.0)
        else:
            x = F.conv2d(x, kernel, padding=1)
        x = x * scale[:, :, None, None].to(self.dtype)
        x = torch.cat((x, skip * self._get(f"{key}.noise.weight").to(self.dtype)), 1)
        return self._activate(x, f"{key}.activate.bias")

    def _to_rgb(self, key: str, x: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
        """[B, I, S, S] -> [B, 3, S, S] in float32."""
        style = self._linear(f"{key}.conv.modulation", styles)
        kernel = self._kernel(f"{key}.conv.weight").to(self.dtype)
        out = F.conv2d(x * style[:, :, None, None].to(self.dtype), kernel)
        return out.float() + self._get(f"{key}.bias")


def _add_parameter(module: nn.Module, key: str, tensor: torch.Tensor) -> None:
    """As a parameter with dots in its name: modules inside of modules."""
    *folders, name = key.split(".")
    for folder in folders:
        if not hasattr(module, folder):
            module.add_module(folder, nn.Module())
        module = module.get_submodule(folder)
    module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))


def _blur(x: torch.Tensor, padding: int, gain: float) -> torch.Tensor:
    channels = int(x.shape[1])
    kernel = fir_kernel(gain).to(x.dtype).repeat(channels, 1, 1, 1)
    return F.conv2d(x, kernel, padding=padding, groups=channels)


def _upsample(rgb: torch.Tensor) -> torch.Tensor:
    """[B, 3, S, S] -> [B, 3, 2 * S, 2 * S]"""
    kernel = fir_kernel(4.0).repeat(3, 1, 1, 1)
    return F.conv_transpose2d(rgb, kernel, stride=2, padding=1, groups=3)

"""GPEN: a U-shaped encoder that feeds a StyleGAN2 generator (Yang et al., CVPR 2021, arXiv 2105.06070, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..errors import InputError
from .config import STYLE_LAYERS, GPENConfig
from .layers import EPSILON, EncoderLevel, EqualLinear, StyledConv, ToRGB, frozen
from .state_dict import checked


class GPEN(nn.Module):
    """The generator in inference form. Made by `from_state_dict`; moves between devices with `.to(device)`."""

    def __init__(self, state_dict: Mapping[str, torch.Tensor], config: GPENConfig, dtype: torch.dtype) -> None:
        """`state_dict` must have passed `state_dict.check`; use `from_state_dict`."""
        super().__init__()
        sd = dict(state_dict)
        self.config = config
        self.dtype = dtype
        first = [EncoderLevel(sd["ecd0.0.0.weight"], sd["ecd0.0.1.bias"], dtype)]
        deeper = [EncoderLevel(sd[f"ecd{n}.0.1.weight"], sd[f"ecd{n}.0.2.bias"], dtype) for n in range(1, config.levels + 1)]
        self.encoder = nn.ModuleList(first + deeper)
        self.final_linear = EqualLinear(sd["final_linear.0.weight"], sd["final_linear.0.bias"])
        style = (f"generator.style.{n}" for n in range(1, STYLE_LAYERS + 1))
        self.style = nn.ModuleList(EqualLinear(sd[f"{k}.weight"], sd[f"{k}.bias"], lr_mul=0.01) for k in style)
        self.constant = frozen(sd["generator.input.input"], dtype)
        self.conv1 = StyledConv(sd, "generator.conv1", upsample=False, dtype=dtype)
        self.to_rgb1 = ToRGB(sd, "generator.to_rgb1", dtype)
        convs = range(2 * config.levels)
        self.convs = nn.ModuleList(StyledConv(sd, f"generator.convs.{i}", i % 2 == 0, dtype) for i in convs)
        self.to_rgbs = nn.ModuleList(ToRGB(sd, f"generator.to_rgbs.{i}", dtype) for i in range(config.levels))
        self.eval()

    @classmethod
    def from_state_dict(cls, checkpoint: object, dtype: torch.dtype = torch.float32, size: int | None = None) -> GPEN:
        """Builds the network that a checkpoint describes, on the CPU.

        `checkpoint` maps names to tensors, plain or inside `g_ema`, `params_ema`, `params`, `state_dict` or `model`, with
        or without `module.`; it is not changed. Convolutions compute in `dtype`, styles and RGB sums in float32.
        Raises `WeightsError` naming the first five offenders where it is not exactly one of the released layouts, or not
        of the `size` that is asked for.
        """
        state_dict, config = checked(checkpoint, size)
        return cls(state_dict, config, dtype)

    @property
    def size(self) -> int:
        """Side of the square input and output in pixels."""
        return self.config.size

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, size, size] RGB in [-1, 1] -> the same shape in float32, not clipped. `InputError` for other shapes."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, self.size, self.size):
            raise InputError(f"GPEN-{self.size} takes [B, 3, {self.size}, {self.size}], got {list(x.shape)}.")
        levels = self._encode(x)
        w = self._style(levels[-1])
        h = self.conv1(self.constant.expand(len(x), -1, -1, -1), levels.pop(), w)
        rgb: torch.Tensor = self.to_rgb1(h, w, None)
        for i, to_rgb in enumerate(self.to_rgbs):
            level = levels.pop()
            h = self.convs[2 * i](h, level, w)
            h = self.convs[2 * i + 1](h, level, w)
            rgb = to_rgb(h, w, rgb)
        return rgb

    def _encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Every level's features, the full size first."""
        # Channels-last is the faster order for these convolutions on CPU and CUDA; other backends had bugs with it.
        order = torch.channels_last if x.device.type in ("cpu", "cuda") else torch.contiguous_format
        x = x.to(self.dtype).contiguous(memory_format=order)
        levels = []
        for level in self.encoder:
            x = level(x)
            levels.append(x)
        return levels

    def _style(self, smallest: torch.Tensor) -> torch.Tensor:
        """[B, C, 4, 4] -> [B, 512], float32: one style for all layers."""
        w: torch.Tensor = self.final_linear(smallest.float().flatten(1))
        w = w * torch.rsqrt(w.square().mean(1, keepdim=True) + EPSILON)
        for layer in self.style:
            w = layer(w)
        return w

"""The configuration of a GPEN generator, derived from the keys and shapes of its state dict."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import torch

from ..errors import WeightsError
from ..progress import pluralize

STYLE_DIM = 512
STYLE_LAYERS = 8
WRAPPERS = ("g_ema", "params_ema", "params", "state_dict", "model")

Shape = tuple[int, ...]


class _Factory(TypedDict):
    dtype: torch.dtype
    device: str


CPU_FLOAT32: _Factory = {"dtype": torch.float32, "device": "cpu"}
"""Arguments of new tensors. Programs may set torch's default dtype and default device, which must not change results."""


@dataclass(frozen=True)
class GPENConfig:
    """The three numbers that define a GPEN generator (Yang et al., CVPR 2021, section 3.2; StyleGAN2 widths)."""

    size: int
    """Side of the square input and output in pixels."""
    narrow: float
    """Width relative to StyleGAN2: 1 gives 512 channels at 4x4."""
    channel_multiplier: int
    """StyleGAN2's factor on the widths at 64x64 and larger."""

    @property
    def levels(self) -> int:
        """How many times the encoder halves its input, from `size` to 4."""
        return int(math.log2(self.size)) - 2

    def channels(self, side: int) -> int:
        """Feature channels at `side` x `side`."""
        full = 512 if side <= 32 else 16384 // side * self.channel_multiplier
        return int(full * self.narrow)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, torch.Tensor]) -> GPENConfig:
        """Derive the configuration from an unwrapped state dict. Raises `WeightsError` if it is not a released GPEN."""
        anchors = ("ecd0.0.0.weight", "generator.input.input", "final_linear.0.weight")
        missing = [key for key in anchors if key not in state_dict]
        convs = [int(m[1]) for key in state_dict if (m := re.match(r"generator\.convs\.(\d+)\.", key))]
        if missing or not convs:
            missing += [] if convs else ["generator.convs.0.conv.weight"]
            raise WeightsError(
                f"These weights are not a GPEN generator: {', '.join(missing)} missing "
                f"({pluralize(len(state_dict), 'key')} found). "
                "Use a released file, such as GPEN-BFR-512.pth or gpen-bfr-2048.pth."
            )
        size = 8 << (max(convs) // 2)
        if size not in RELEASED_SIZES:
            raise WeightsError(
                f"These weights describe a GPEN of size {size}. Released sizes: {', '.join(map(str, RELEASED_SIZES))}."
            )
        smallest, widest = state_dict["generator.input.input"], state_dict["ecd0.0.0.weight"]
        if smallest.ndim != 4 or widest.ndim != 4 or smallest.shape[1] == 0:
            raise WeightsError(
                "generator.input.input and ecd0.0.0.weight must have four dimensions, "
                f"but have shapes {list(smallest.shape)} and {list(widest.shape)}."
            )
        narrow = smallest.shape[1] / 512
        multiplier = widest.shape[0] * size / 16384 / narrow
        if multiplier != int(multiplier) or multiplier < 1:
            raise WeightsError(
                f"These weights are not a GPEN generator. {widest.shape[0]} channels at {size}x{size} and "
                f"{smallest.shape[1]} at 4x4 give a channel multiplier of {multiplier:g}; expected a whole number."
            )
        return cls(size, narrow, int(multiplier))

    def parameter_shapes(self) -> dict[str, Shape]:
        """Every key of the released state dict and its shape."""
        out: dict[str, Shape] = {}
        out.update(self._encoder_shapes())
        for n in range(1, STYLE_LAYERS + 1):
            out[f"generator.style.{n}.weight"] = (STYLE_DIM, STYLE_DIM)
            out[f"generator.style.{n}.bias"] = (STYLE_DIM,)
        base = self.channels(4)
        out["generator.input.input"] = (1, base, 4, 4)
        out.update(_styled_conv_shapes("generator.conv1", base, base))
        out.update(_to_rgb_shapes("generator.to_rgb1", 2 * base))
        for i in range(self.levels):
            low, high = self.channels(4 << i), self.channels(8 << i)
            out.update(_styled_conv_shapes(f"generator.convs.{2 * i}", 2 * low, high))
            out[f"generator.convs.{2 * i}.conv.blur.kernel"] = (4, 4)
            out.update(_styled_conv_shapes(f"generator.convs.{2 * i + 1}", 2 * high, high))
            out.update(_to_rgb_shapes(f"generator.to_rgbs.{i}", 2 * high))
            out[f"generator.to_rgbs.{i}.upsample.kernel"] = (4, 4)
        return out

    def _encoder_shapes(self) -> dict[str, Shape]:
        widths = [self.channels(self.size >> n) for n in range(self.levels + 1)]
        out: dict[str, Shape] = {"ecd0.0.0.weight": (widths[0], 3, 1, 1), "ecd0.0.1.bias": (widths[0],)}
        for n in range(1, self.levels + 1):
            out[f"ecd{n}.0.0.kernel"] = (4, 4)
            out[f"ecd{n}.0.1.weight"] = (widths[n], widths[n - 1], 3, 3)
            out[f"ecd{n}.0.2.bias"] = (widths[n],)
        out["final_linear.0.weight"] = (STYLE_DIM, widths[-1] * 16)
        out["final_linear.0.bias"] = (STYLE_DIM,)
        return out


RELEASED = {
    256: GPENConfig(256, 0.5, 1),
    512: GPENConfig(512, 1.0, 2),
    1024: GPENConfig(1024, 1.0, 2),
    2048: GPENConfig(2048, 1.0, 2),
}
RELEASED_SIZES = tuple(RELEASED)


def _modulated_shapes(key: str, channels_in: int, channels_out: int, kernel: int) -> dict[str, Shape]:
    return {
        f"{key}.conv.weight": (1, channels_out, channels_in, kernel, kernel),
        f"{key}.conv.modulation.weight": (channels_in, STYLE_DIM),
        f"{key}.conv.modulation.bias": (channels_in,),
    }


def _styled_conv_shapes(key: str, channels_in: int, channels_out: int) -> dict[str, Shape]:
    out = _modulated_shapes(key, channels_in, channels_out, 3)
    out[f"{key}.noise.weight"] = (1,)
    out[f"{key}.activate.bias"] = (2 * channels_out,)
    return out


def _to_rgb_shapes(key: str, channels_in: int) -> dict[str, Shape]:
    return {**_modulated_shapes(key, channels_in, 3, 1), f"{key}.bias": (1, 3, 1, 1)}

"""GPEN: a U-shaped encoder that feeds a StyleGAN2 generator (Yang et al., CVPR 2021, arXiv 2105.06070, figure 2)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InputError, first_line
from . import fused_fir
from .blocks import DecoderLevel, EncoderLevel, FirstLevel, Pulse, Rows
from .buffer_pool import Workspace
from .config import STYLE_LAYERS, GPENConfig
from .cuda_graphs import Replay, can_fuse, fuse
from .layers import EPSILON, EqualLinear, Modulation, Modulations, StyledConv, Styles, ToRGB, frozen
from .state_dict import checked

log = logging.getLogger(__name__)

SMALLEST_LARGE = 128  # from this side on, a level has more features than weights


def _no_pulse() -> None:
    """For whoever does not want to hear of the work."""


@dataclass(frozen=True)
class _Call:
    """What one call of the network goes by."""

    memory: Workspace
    pulse: Pulse = _no_pulse
    strip_bytes: int | None = None

    def in_one_piece(self, x: torch.Tensor) -> bool:
        """Whether levels are computed whole, as a GPU is faster."""
        return self.strip_bytes is None and fused_fir.applies(x)


class GPEN(nn.Module):
    """The generator in inference form. Made by `from_state_dict`; moves between devices with `.to(device)`."""

    def __init__(self, state_dict: Mapping[str, torch.Tensor], config: GPENConfig, dtype: torch.dtype) -> None:
        """`state_dict` must have passed `state_dict.check`; use `from_state_dict`."""
        super().__init__()
        sd = dict(state_dict)
        self.config = config
        self.dtype = dtype
        self._memory, self._lock = Workspace(), threading.Lock()
        self._replay: Replay | None = None
        self.first = FirstLevel(sd, dtype)
        self.encoder = nn.ModuleList(EncoderLevel(sd, f"ecd{n}", dtype) for n in range(1, config.levels + 1))
        self.final_linear = EqualLinear(sd["final_linear.0.weight"], sd["final_linear.0.bias"])
        style = (f"generator.style.{n}" for n in range(1, STYLE_LAYERS + 1))
        self.style = nn.ModuleList(EqualLinear(sd[f"{k}.weight"], sd[f"{k}.bias"], lr_mul=0.01) for k in style)
        self.constant = frozen(sd["generator.input.input"], dtype)
        self.conv1 = StyledConv(sd, "generator.conv1", upsample=False, dtype=dtype)
        self.to_rgb1 = ToRGB(sd, "generator.to_rgb1", dtype)
        self.decoder = nn.ModuleList(DecoderLevel(sd, i, dtype) for i in range(config.levels))
        self.modulations = Modulations([module for module in self.modules() if isinstance(module, Modulation)])
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
    def forward(self, x: torch.Tensor, pulse: Pulse = _no_pulse, strip_bytes: int | None = None) -> torch.Tensor:
        """[B, 3, size, size] RGB in [-1, 1] -> the same shape in float32, not clipped. `InputError` for other shapes.

        `pulse` is called at each level or strip of a level; it stops the work by raising. `strip_bytes` bounds the features
        between two layers of a large level (None: as they are, in one piece). Several threads may call it at once: one of
        them uses the memory that is kept, the others take their own."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, self.size, self.size):
            raise InputError(f"GPEN-{self.size} takes [B, 3, {self.size}, {self.size}], got {list(x.shape)}.")
        if not self._lock.acquire(blocking=False):  # another thread is in here and uses the kept memory
            call = _Call(Workspace(), pulse, strip_bytes)
            return self._restore(self._ordered(x, call.memory), call)
        try:
            x = self._ordered(x, self._memory)
            if self._replay is not None and strip_bytes is None:
                pulse()
                return self._replay(x)
            return self._restore(x, _Call(self._memory, pulse, strip_bytes))
        finally:
            self._lock.release()

    def release_memory(self) -> None:
        """Gives back the memory that is kept for the next face (on the CPU about what a face takes, see
        docs/performance.md)."""
        with self._lock:
            self._memory.clear()
            if self._replay is not None:
                self._replay.clear()

    def record(self) -> str | None:
        """For weights on a CUDA or ROCm device, which must stay there: from now on, calls are recorded as CUDA graphs and
        replayed, with what lies between the convolutions fused by torch.compile.

        A shape's first call takes seconds to minutes and keeps its memory; `pulse` is called once for all levels. What
        comes back says what does not work here and is left out; None where all does."""
        self._replay = Replay(lambda x: self._restore(x, _Call(Workspace())))
        failure: str | None = "it needs Triton"
        if can_fuse():
            undo = fuse(self)
            failure = self._trial()
            if failure is None:
                return None
            undo()
        without = self._trial()
        if without is None:
            return f"torch.compile is left out: {failure}"
        self._replay = None
        return f"CUDA graphs are left out: {without}"

    def _trial(self) -> str | None:
        """Records one face; why it failed, or None."""
        try:
            self(torch.zeros(1, 3, self.size, self.size, device=self.constant.device))
        except RuntimeError as error:  # torch's, for whatever a compiler or a driver says
            log.debug("Recording failed", exc_info=error)
            self.release_memory()
            return first_line(error) or type(error).__name__
        return None

    def _ordered(self, x: torch.Tensor, memory: Workspace) -> torch.Tensor:
        """The picture in the network's type and the order that is faster for its convolutions: channels-last on CPU and
        CUDA; other backends had bugs with it."""
        if x.device.type not in ("cpu", "cuda"):
            return x.to(self.dtype).contiguous()
        if x.dtype == self.dtype and x.is_contiguous(memory_format=torch.channels_last):
            return x
        batch, channels, height, width = x.shape
        rows = memory.dense("picture", (batch, height, width, channels), x.new_empty(0, dtype=self.dtype))
        return rows.permute(0, 3, 1, 2).copy_(x)

    def _restore(self, x: torch.Tensor, call: _Call) -> torch.Tensor:
        levels = self._encode(x, call)
        styles: Styles = self.modulations(self._style(levels[-1]))
        h = self.conv1(self.constant.expand(len(x), -1, -1, -1), levels.pop(), styles, call.memory)
        rgb: torch.Tensor = self.to_rgb1(h, styles, None)
        large = [side for side in self._sides() if side >= SMALLEST_LARGE]
        for decoder in self.decoder[: -len(large)]:
            call.pulse()
            h, rgb = decoder(h, levels.pop(), styles, rgb, call.memory)
        if len(x) == 1:
            return self._large_levels(x, levels, h, styles, rgb, call)
        samples = []
        for n in range(len(x)):
            own = [_sample(level, n) for level in levels]
            args = (_sample(x, n), own, _sample(h, n), styles.of_sample(n), _sample(rgb, n))
            samples.append(self._large_levels(*args, call))
        return torch.cat(samples)

    def _sides(self) -> list[int]:
        """The decoder levels' sizes."""
        return [8 << n for n in range(self.config.levels)]

    def _encode(self, x: torch.Tensor, call: _Call) -> list[torch.Tensor]:
        """The features of half the size, a quarter, ... 4x4; before them those of the full size, if they are kept."""
        levels: list[torch.Tensor] = []
        below = self._first_rows(x)
        if call.in_one_piece(x):
            levels.append(self.first(x))
            below = _rows_of(levels[0])
        for n, level in enumerate(self.encoder, start=1):
            levels.append(level(below, x, self.size >> n, call.strip_bytes, call.memory, call.pulse))
            below = _rows_of(levels[-1])
        return levels

    def _first_rows(self, x: torch.Tensor) -> Rows:
        def rows(top: int, bottom: int) -> torch.Tensor:
            features: torch.Tensor = self.first(x[:, :, top:bottom])
            return features

        return rows

    def _large_levels(
        self,
        x: torch.Tensor,
        levels: list[torch.Tensor],
        h: torch.Tensor,
        styles: Styles,
        rgb: torch.Tensor,
        call: _Call,
    ) -> torch.Tensor:
        """One sample's picture [1, 3, size, size]. `levels` is emptied as it goes."""
        in_one_piece = call.in_one_piece(x)
        for side in (side for side in self._sides() if side >= SMALLEST_LARGE):
            is_last = side == self.size
            rows = _rows_of(levels.pop()) if levels else self._first_rows(x)
            level: Any = self.decoder[_level_of(side)]
            if in_one_piece:
                call.pulse()
                h, rgb = level.in_one_piece(h, rows(0, side), styles, rgb)
            else:
                h, rgb = level.in_strips(h, rows, styles, rgb, call.strip_bytes, is_last, call.memory, call.pulse)
        return rgb

    def _style(self, smallest: torch.Tensor) -> torch.Tensor:
        """[B, C, 4, 4] -> [B, 512], float32: one style for all layers."""
        w: torch.Tensor = self.final_linear(smallest.float().flatten(1))
        w = w * torch.rsqrt(w.square().mean(1, keepdim=True) + EPSILON)
        for layer in self.style:
            w = layer(w)
        return w


def _rows_of(features: torch.Tensor) -> Rows:
    return lambda top, bottom: features[:, :, top:bottom]


def _level_of(side: int) -> int:
    return side.bit_length() - 4  # 8 -> 0


def _sample(batch: torch.Tensor, number: int) -> torch.Tensor:
    return batch[number : number + 1]

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
from .blocks import DecoderBlock, EncoderBlock, RowReader, StemBlock, TickCallback
from .buffer_pool import BufferPool
from .config import STYLE_LAYERS, GPENConfig
from .cuda_graphs import CUDAGraphRunner, can_compile, compile_layers
from .layers import EPSILON, EqualLinear, Modulation, Modulations, StyleCodes, StyledConv, ToRGB, frozen_parameter
from .state_dict import validate_state_dict

log = logging.getLogger(__name__)

MIN_LARGE_SIDE = 128  # from this side on, a level has more features than weights


def _ignore_tick() -> None:
    """For whoever does not want to hear of the work."""


@dataclass(frozen=True)
class _ForwardContext:
    """What one call of the network goes by."""

    pool: BufferPool
    on_tick: TickCallback = _ignore_tick
    strip_bytes: int | None = None

    def use_whole(self, x: torch.Tensor) -> bool:
        """Whether levels are computed whole, as a GPU is faster."""
        return self.strip_bytes is None and fused_fir.is_supported(x)


class GPEN(nn.Module):
    """The generator in inference form. Made by `from_state_dict`; moves between devices with `.to(device)`."""

    def __init__(self, state_dict: Mapping[str, torch.Tensor], config: GPENConfig, dtype: torch.dtype) -> None:
        """`state_dict` must have passed `state_dict.validate`; use `from_state_dict`."""
        super().__init__()
        sd = dict(state_dict)
        self.config = config
        self.dtype = dtype
        self._pool, self._lock = BufferPool(), threading.Lock()
        self._graph_runner: CUDAGraphRunner | None = None
        self.stem = StemBlock(sd, dtype)
        self.encoder = nn.ModuleList(EncoderBlock(sd, f"ecd{n}", dtype) for n in range(1, config.levels + 1))
        self.final_linear = EqualLinear(sd["final_linear.0.weight"], sd["final_linear.0.bias"])
        style = (f"generator.style.{n}" for n in range(1, STYLE_LAYERS + 1))
        self.style = nn.ModuleList(EqualLinear(sd[f"{k}.weight"], sd[f"{k}.bias"], lr_mul=0.01) for k in style)
        self.constant = frozen_parameter(sd["generator.input.input"], dtype)
        self.conv1 = StyledConv(sd, "generator.conv1", upsample=False, dtype=dtype)
        self.to_rgb1 = ToRGB(sd, "generator.to_rgb1", dtype)
        self.decoder = nn.ModuleList(DecoderBlock(sd, i, dtype) for i in range(config.levels))
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
        state_dict, config = validate_state_dict(checkpoint, size)
        return cls(state_dict, config, dtype)

    @property
    def size(self) -> int:
        """Side of the square input and output in pixels."""
        return self.config.size

    @torch.no_grad()
    def forward(self, x: torch.Tensor, on_tick: TickCallback = _ignore_tick, strip_bytes: int | None = None) -> torch.Tensor:
        """[B, 3, size, size] RGB in [-1, 1] -> the same shape in float32, not clipped. `InputError` for other shapes.

        `on_tick` is called at each level or strip of a level; it stops the work by raising. `strip_bytes` bounds the
        features between two layers of a large level (None: as they are, in one piece). Several threads may call it at once:
        one of them uses the memory that is kept, the others take their own."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, self.size, self.size):
            raise InputError(f"GPEN-{self.size} takes [B, 3, {self.size}, {self.size}], got {list(x.shape)}.")
        if not self._lock.acquire(blocking=False):  # another thread is in here and uses the kept memory
            context = _ForwardContext(BufferPool(), on_tick, strip_bytes)
            return self._run(self._to_memory_format(x, context.pool), context)
        try:
            x = self._to_memory_format(x, self._pool)
            if self._graph_runner is not None and strip_bytes is None:
                on_tick()
                return self._graph_runner(x)
            return self._run(x, _ForwardContext(self._pool, on_tick, strip_bytes))
        finally:
            self._lock.release()

    def release_memory(self) -> None:
        """Gives back the memory that is kept for the next face (on the CPU about what a face takes, see
        docs/benchmarks.md)."""
        with self._lock:
            self._pool.clear()
            if self._graph_runner is not None:
                self._graph_runner.clear()

    def capture(self) -> str | None:
        """For weights on a CUDA or ROCm device, which must stay there: from now on, calls are recorded as CUDA graphs and
        replayed, with what lies between the convolutions fused by torch.compile.

        A shape's first call takes seconds to minutes and keeps its memory; `on_tick` is called once for all levels. What
        comes back says what does not work here and is left out; None where all does."""
        self._graph_runner = CUDAGraphRunner(lambda x: self._run(x, _ForwardContext(BufferPool())))
        failure: str | None = "it needs Triton"
        if can_compile():
            undo = compile_layers(self)
            failure = self._try_capture()
            if failure is None:
                return None
            undo()
        graph_failure = self._try_capture()
        if graph_failure is None:
            return f"torch.compile is not used: {failure}"
        self._graph_runner = None
        return f"CUDA graphs are not used: {graph_failure}"

    def _try_capture(self) -> str | None:
        """Records one face; why it failed, or None."""
        try:
            self(torch.zeros(1, 3, self.size, self.size, device=self.constant.device))
        except RuntimeError as error:  # torch's, for whatever a compiler or a driver says
            log.debug("CUDA graph capture failed", exc_info=error)
            self.release_memory()
            return first_line(error) or type(error).__name__
        return None

    def _to_memory_format(self, x: torch.Tensor, pool: BufferPool) -> torch.Tensor:
        """The image in the network's type and the order that is faster for its convolutions: channels-last on CPU and
        CUDA; other backends had bugs with it."""
        if x.device.type not in ("cpu", "cuda"):
            return x.to(self.dtype).contiguous()
        if x.dtype == self.dtype and x.is_contiguous(memory_format=torch.channels_last):
            return x
        batch, channels, height, width = x.shape
        rows = pool.get_contiguous("rgb", (batch, height, width, channels), x.new_empty(0, dtype=self.dtype))
        return rows.permute(0, 3, 1, 2).copy_(x)

    def _run(self, x: torch.Tensor, context: _ForwardContext) -> torch.Tensor:
        skips = self._encode(x, context)
        styles: StyleCodes = self.modulations(self._style(skips[-1]))
        h = self.conv1(self.constant.expand(len(x), -1, -1, -1), skips.pop(), styles, context.pool)
        rgb: torch.Tensor = self.to_rgb1(h, styles, None)
        large = [side for side in self._decoder_sides() if side >= MIN_LARGE_SIDE]
        for decoder in self.decoder[: -len(large)]:
            context.on_tick()
            h, rgb = decoder(h, skips.pop(), styles, rgb, context.pool)
        if len(x) == 1:
            return self._decode_large(x, skips, h, styles, rgb, context)
        samples = []
        for n in range(len(x)):
            sample_skips = [_sample(level, n) for level in skips]
            args = (_sample(x, n), sample_skips, _sample(h, n), styles.sample(n), _sample(rgb, n))
            samples.append(self._decode_large(*args, context))
        return torch.cat(samples)

    def _decoder_sides(self) -> list[int]:
        """The decoder levels' sizes."""
        return [8 << n for n in range(self.config.levels)]

    def _encode(self, x: torch.Tensor, context: _ForwardContext) -> list[torch.Tensor]:
        """The features of half the size, a quarter, ... 4x4; before them those of the full size, if they are kept."""
        skips: list[torch.Tensor] = []
        read_rows = self._stem_rows(x)
        if context.use_whole(x):
            skips.append(self.stem(x))
            read_rows = _row_reader(skips[0])
        for n, block in enumerate(self.encoder, start=1):
            skips.append(block(read_rows, x, self.size >> n, context.strip_bytes, context.pool, context.on_tick))
            read_rows = _row_reader(skips[-1])
        return skips

    def _stem_rows(self, x: torch.Tensor) -> RowReader:
        def rows(top: int, bottom: int) -> torch.Tensor:
            features: torch.Tensor = self.stem(x[:, :, top:bottom])
            return features

        return rows

    def _decode_large(
        self,
        x: torch.Tensor,
        skips: list[torch.Tensor],
        h: torch.Tensor,
        styles: StyleCodes,
        rgb: torch.Tensor,
        context: _ForwardContext,
    ) -> torch.Tensor:
        """One sample's image [1, 3, size, size]. `skips` is emptied as it goes."""
        use_whole = context.use_whole(x)
        for side in (side for side in self._decoder_sides() if side >= MIN_LARGE_SIDE):
            is_last = side == self.size
            rows = _row_reader(skips.pop()) if skips else self._stem_rows(x)
            block: Any = self.decoder[_block_index(side)]
            if use_whole:
                context.on_tick()
                h, rgb = block.forward_whole(h, rows(0, side), styles, rgb)
            else:
                h, rgb = block.forward_strips(
                    h, rows, styles, rgb, context.strip_bytes, is_last, context.pool, context.on_tick
                )
        return rgb

    def _style(self, smallest: torch.Tensor) -> torch.Tensor:
        """[B, C, 4, 4] -> [B, 512], float32: one style for all layers."""
        w: torch.Tensor = self.final_linear(smallest.float().flatten(1))
        w = w * torch.rsqrt(w.square().mean(1, keepdim=True) + EPSILON)
        for layer in self.style:
            w = layer(w)
        return w


def _row_reader(features: torch.Tensor) -> RowReader:
    return lambda top, bottom: features[:, :, top:bottom]


def _block_index(side: int) -> int:
    return side.bit_length() - 4  # 8 -> 0


def _sample(batch: torch.Tensor, number: int) -> torch.Tensor:
    return batch[number : number + 1]

"""The GPEN generator: an encoder whose features feed a StyleGAN2 decoder (Yang et al., CVPR 2021, arXiv 2105.06070)."""

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
from .autocast import without_autocast
from .blocks import DecoderBlock, EncoderBlock, RowReader, StemBlock, TickCallback
from .buffer_pool import BufferPool
from .config import STYLE_LAYERS, GPENConfig
from .cuda_graphs import CUDAGraphRunner, can_compile, compile_layers
from .layers import EPSILON, EqualLinear, Modulation, Modulations, StyleCodes, StyledConv, ToRGB, frozen_parameter
from .state_dict import validate_state_dict

log = logging.getLogger(__name__)

MIN_LARGE_SIDE = 128  # px: levels of this size and larger have more features than weights


def _ignore_tick() -> None:
    """The default callback, which does nothing."""


@dataclass(frozen=True)
class _ForwardContext:
    """The arguments of one forward pass."""

    pool: BufferPool
    on_tick: TickCallback = _ignore_tick
    strip_bytes: int | None = None

    def use_whole(self, x: torch.Tensor) -> bool:
        """Whether levels are computed without strips, which is faster on a GPU."""
        return self.strip_bytes is None and fused_fir.is_supported(x)


class GPEN(nn.Module):
    """The GPEN generator for inference. Create it with `from_state_dict` and move it with `.to(device)`."""

    has_strips = True
    """Whether `strip_bytes` lowers the memory that one face needs."""

    def __init__(self, state_dict: Mapping[str, torch.Tensor], config: GPENConfig, dtype: torch.dtype) -> None:
        """Use `from_state_dict` instead. `state_dict` must have passed `state_dict.validate`."""
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
        """Build the network of a checkpoint on the CPU.

        `checkpoint` maps names to tensors, directly or under `g_ema`, `params_ema`, `params`, `state_dict` or `model`, with
        or without the prefix `module.`. It is not changed. Convolutions compute in `dtype`, styles and RGB sums in float32.
        Raises `WeightsError` with the first five invalid tensors if the layout is not exactly a released one, or if it is
        not of the given `size`.
        """
        state_dict, config = validate_state_dict(checkpoint, size)
        return cls(state_dict, config, dtype)

    @property
    def size(self) -> int:
        """Side of the square input and output in pixels."""
        return self.config.size

    @torch.no_grad()
    def forward(self, x: torch.Tensor, on_tick: TickCallback = _ignore_tick, strip_bytes: int | None = None) -> torch.Tensor:
        """Restore faces: [B, 3, size, size] RGB in [-1, 1] -> the same shape in float32, not clipped.

        `on_tick` is called for each level or strip of a level and stops the work by raising an exception. `strip_bytes`
        limits the bytes of features between two layers of a large level (None: no strips). Thread-safe: one thread uses the
        buffer pool of the network, the others allocate their own. Raises `InputError` for other shapes."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, self.size, self.size):
            raise InputError(f"GPEN-{self.size} requires shape [B, 3, {self.size}, {self.size}], got {list(x.shape)}.")
        if not self._lock.acquire(blocking=False):  # another thread uses the buffer pool
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
        """Free the buffers that are kept for the next face.

        On the CPU they are about as large as one face's activations, see docs/benchmarks.md."""
        with self._lock:
            self._pool.clear()
            if self._graph_runner is not None:
                self._graph_runner.clear()

    def capture(self) -> str | None:
        """Run later calls as CUDA graphs, with the operations between the convolutions fused by torch.compile.

        The weights must be on a CUDA or ROCm device and stay there. The first call with a shape takes seconds to minutes
        and keeps its memory. `on_tick` is then called once per forward pass. Returns a message on what is not available and
        therefore not used, or None if everything works."""
        self._graph_runner = CUDAGraphRunner(lambda x: self._run(x, _ForwardContext(BufferPool())))
        failure: str | None = "it requires Triton"
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
        """Capture the graph of one face. Returns the reason if it fails, else None."""
        try:
            self(torch.zeros(1, 3, self.size, self.size, dtype=torch.float32, device=self.constant.device))
        except RuntimeError as error:  # torch raises it for errors of the compiler and the driver
            log.debug("CUDA graph capture failed", exc_info=error)
            self.release_memory()
            return first_line(error) or type(error).__name__
        return None

    def _to_memory_format(self, x: torch.Tensor, pool: BufferPool) -> torch.Tensor:
        """Convert the image to the network's dtype and to the faster memory format.

        That is channels-last on CPU and CUDA; other backends had bugs with it."""
        if x.device.type not in ("cpu", "cuda"):
            return x.to(self.dtype).contiguous()
        if x.dtype == self.dtype and x.is_contiguous(memory_format=torch.channels_last):
            return x
        batch, channels, height, width = x.shape
        rows = pool.get_contiguous("rgb", (batch, height, width, channels), x.new_empty(0, dtype=self.dtype))
        return rows.permute(0, 3, 1, 2).copy_(x)

    def _run(self, x: torch.Tensor, context: _ForwardContext) -> torch.Tensor:
        with without_autocast(x.device):
            return self._compute(x, context)

    def _compute(self, x: torch.Tensor, context: _ForwardContext) -> torch.Tensor:
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
        """The sides of the decoder levels, smallest first."""
        return [8 << n for n in range(self.config.levels)]

    def _encode(self, x: torch.Tensor, context: _ForwardContext) -> list[torch.Tensor]:
        """The encoder's features at 1/2, 1/4, ... of the size down to 4x4.

        Those at full size come first if levels are computed without strips."""
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
        """The RGB image [1, 3, size, size] of one sample. Removes the entries of `skips` as it uses them."""
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
        """Map the smallest features [B, C, 4, 4] to the latent [B, 512] in float32."""
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

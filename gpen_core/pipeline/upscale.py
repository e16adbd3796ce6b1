"""Upscale the whole image with Lanczos or with a network in tiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import OutOfMemory, WeightsError, first_line, is_out_of_memory
from ..files.host_memory import host_memory
from ..files.size_text import memory_text
from ..images import memory_estimate
from ..images.image import FLOAT_DTYPES, FloatImage, ImageData, Pixels, Region
from ..images.resize import Filter, resize
from ..network.autocast import without_autocast
from ..network.module_loading import cast_convolutions
from ..progress import Progress, ProgressEvent
from .devices import FREE_MEMORY_FRACTION, memory_budget
from .lazy import Lazy
from .rrdb import RRDBLayout

log = logging.getLogger(__name__)

LANCZOS = "lanczos"
TILE_PAD = 24  # px of context around a tile, see docs/faces.md
TILE_MULTIPLE = 4  # px: tile positions are multiples of this, so that pixel unshuffle works as on the whole image
MIN_TILE_SIZE, MAX_TILE_SIZE = 32, 256  # px: side of a tile without its context, a multiple of TILE_MULTIPLE
ROWS_PER_WRITE = 256  # rows written at once
UPSCALING = "Upscaling the image"


class Upscaler:
    """An RRDBNet on its device."""

    def __init__(
        self,
        network: nn.Module,
        layout: RRDBLayout,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        load_fp32: Callable[[], Upscaler] | None = None,
    ) -> None:
        """`network` is in float32. All its convolutions except the last will compute in `dtype`.

        `load_fp32` returns the same upscaler in float32, for tiles whose output in half precision is not finite."""
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)][-1:]
        self.network = cast_convolutions(network, dtype, *last)
        self.layout, self.device, self.dtype = layout, device, dtype
        self._fp32_fallback = None if load_fp32 is None or dtype == torch.float32 else Lazy(lambda progress: load_fp32())
        self._max_tile_size = MAX_TILE_SIZE

    @property
    def scale(self) -> int:
        return self.layout.scale

    def modules(self) -> tuple[nn.Module, ...]:
        """The network, and its float32 fallback if that is loaded."""
        fallback = None if self._fp32_fallback is None else self._fp32_fallback.loaded_value
        return (self.network,) if fallback is None else (self.network, *fallback.modules())

    def upscale_tiles(
        self, image: ImageData, progress: Progress, max_memory: int | None
    ) -> Iterator[tuple[Region, FloatImage]]:
        """Yield the tiles of the image and the network's output for each: [h * scale, w * scale, 3] RGB in [0, 1].

        `progress` is called before each tile. `max_memory` limits the network's activations in bytes. If the device runs
        out of memory, this and later calls use smaller tiles. Raises `OutOfMemory` if the smallest tiles do not fit."""
        side = self._tile_size(max_memory)
        todo, done = _split_regions([image.full_region], side), 0
        while todo:
            progress(ProgressEvent("upscale", done, done + len(todo), "tile", UPSCALING))
            try:
                output = self._upscale_tile(image, todo[0])
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if side <= MIN_TILE_SIZE:
                    raise OutOfMemory(
                        f"There is not enough memory to upscale {side} x {side} pixels ({first_line(error)}). Close "
                        "other programs, use the upscaler lanczos, or use the CPU."
                    ) from error
                self._max_tile_size = side = max(MIN_TILE_SIZE, side // 2)
                log.warning("Out of memory while upscaling; continuing with %d px tiles.", side)
                todo = _split_regions(todo, side)
                continue
            yield todo.pop(0), output
            done += 1
        progress(ProgressEvent("upscale", done, done, "tile", UPSCALING))

    def _tile_size(self, max_memory: int | None) -> int:
        """Return the side of the largest tile that fits, in px. Raises `OutOfMemory` if `max_memory` is too small."""
        allowed = memory_budget(self.device, max_memory)
        if allowed is None:
            return self._max_tile_size
        bytes_per_pixel = self.layout.elements_per_pixel * torch.empty(0, dtype=self.dtype).element_size()
        padded_size = MIN_TILE_SIZE + 2 * TILE_PAD
        required = bytes_per_pixel * padded_size**2
        if max_memory is not None and max_memory < required:
            raise OutOfMemory(
                f"The smallest tile of the upscaler ({padded_size} x {padded_size} pixels) needs about "
                f"{memory_text(required)}, but the budget is {memory_text(max_memory)}. "
                "Increase it, or use the upscaler lanczos."
            )
        fits = math.isqrt(allowed // bytes_per_pixel) - 2 * TILE_PAD
        return min(self._max_tile_size, max(MIN_TILE_SIZE, fits // TILE_MULTIPLE * TILE_MULTIPLE))

    def _upscale_tile(self, image: ImageData, tile: Region) -> FloatImage:
        padded = image.region_with_margin(tile, TILE_PAD)
        rgb = image.crop_rgb(padded)
        out = self._run(rgb)
        if not np.isfinite(out).all():
            out = self._redo_in_fp32(rgb)
        return np.clip(out[_scale_region(tile.relative_to(padded), self.scale).slices], 0, 1)

    def _redo_in_fp32(self, rgb: FloatImage) -> FloatImage:
        out = None if self._fp32_fallback is None else self._fp32_fallback.get()._run(rgb)
        if out is None or not np.isfinite(out).all():
            raise WeightsError(
                "The upscaler's output is not finite, so its weights are damaged or not for images. "
                "Download the file again, or use the upscaler lanczos."
            )
        return out

    @torch.inference_mode()
    def _run(self, rgb: FloatImage) -> FloatImage:
        """Run the network: [h, w, 3] in [0, 1] -> [h * scale, w * scale, 3]."""
        height, width = rgb.shape[:2]
        x = torch.from_numpy(rgb).to(self.device).permute(2, 0, 1)[None]  # HWC -> NCHW
        if self.layout.unshuffle > 1:
            x = functional.pad(x, (0, -width % TILE_MULTIPLE, 0, -height % TILE_MULTIPLE), mode="replicate")
        with without_autocast(self.device):
            y = self.network(x.to(self.dtype))[0].float().permute(1, 2, 0)  # NCHW -> HWC
        return np.asarray(y[: height * self.scale, : width * self.scale].cpu().numpy())


def _scale_region(region: Region, scale: int) -> Region:
    return Region(*(scale * edge for edge in (region.x0, region.y0, region.x1, region.y1)))


def _split_regions(regions: Sequence[Region], side: int) -> list[Region]:
    """Split regions into parts of about equal size, at most `side` px wide and high."""
    parts = []
    for region in regions:
        for y0, y1 in _split_range(region.y0, region.y1, side):
            parts += [Region(x0, y0, x1, y1) for x0, x1 in _split_range(region.x0, region.x1, side)]
    return parts


def _split_range(start: int, end: int, side: int) -> list[tuple[int, int]]:
    number = math.ceil((end - start) / side)
    step = math.ceil((end - start) / number / TILE_MULTIPLE) * TILE_MULTIPLE
    return [(at, min(at + step, end)) for at in range(start, end, step)]


def output_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return width and height times `factor`, rounded."""
    return round(size[0] * factor), round(size[1] * factor)


def upscale(
    image: ImageData, factor: float, upscaler: Upscaler | None, progress: Progress, max_memory: int | None = None
) -> ImageData:
    """Upscale the whole image by `factor` with `upscaler`, or with Lanczos if it is None. The pixel type is kept.

    The network runs once. If its scale is larger than `factor`, the output is reduced by area; if it is smaller, Lanczos
    enlarges the output further. Alpha is interpolated linearly. `max_memory` (bytes) limits the network's activations and,
    separately, the images. Without it, the images may use most of the machine's memory. `progress` counts tiles (Lanczos:
    images) and stops the work by raising `Interrupted`. Raises `OutOfMemory` before computing if the images are too
    large."""
    size = output_size(image.size, factor)
    _raise_if_too_large(image, size, upscaler, max_memory)
    if upscaler is None:
        progress(ProgressEvent("upscale", 0, 1, "image", UPSCALING))
        pixels = _resize(image.pixels, size, "lanczos")
    else:
        pixels = _upscale_with_network(image, size, upscaler, progress, max_memory)
    alpha = None if image.alpha is None else _resize(image.alpha, size, "linear")
    return replace(image, pixels=pixels, alpha=alpha)


def _upscale_with_network(
    image: ImageData, size: tuple[int, int], upscaler: Upscaler, progress: Progress, max_memory: int | None
) -> Pixels:
    width, height = size
    target = ImageData(np.empty((height, width, image.pixels.shape[2]), image.pixels.dtype))
    network_size = (image.width * upscaler.scale, image.height * upscaler.scale)
    intermediate = None if network_size == size else np.empty((network_size[1], network_size[0], 3), np.float32)
    for tile, rgb in upscaler.upscale_tiles(image, progress, max_memory):
        target_region = _scale_region(tile, upscaler.scale)
        if intermediate is None:
            target.paste(target_region, rgb, np.ones(rgb.shape[:2], np.bool_))
        else:
            intermediate[target_region.slices] = rgb
    if intermediate is not None:
        resized = np.clip(resize(intermediate, size, "lanczos"), 0, 1, dtype=np.float32)
        for y in range(0, height, ROWS_PER_WRITE):
            rows = Region(0, y, width, min(y + ROWS_PER_WRITE, height))
            target.paste(rows, resized[rows.slices], np.ones((rows.y1 - rows.y0, width), np.bool_))
    return target.pixels


def _resize(pixels: Pixels, size: tuple[int, int], enlarge: Filter) -> Pixels:
    """Resize [H, W] or [H, W, C] and keep the dtype. Floats are clipped to [0, 1]."""
    out = resize(pixels, size, enlarge)
    return np.asarray(np.clip(out, 0, 1) if pixels.dtype in FLOAT_DTYPES else out).astype(pixels.dtype, copy=False)


def _raise_if_too_large(image: ImageData, size: tuple[int, int], upscaler: Upscaler | None, max_memory: int | None) -> None:
    total = host_memory()
    allowed = max_memory if max_memory is not None else None if total is None else int(total * FREE_MEMORY_FRACTION)
    needed = _estimate_bytes(image, size, upscaler)
    if allowed is not None and needed > allowed:
        raise OutOfMemory(
            f"Upscaled to {size[0]} x {size[1]} pixels, the image needs about {memory_text(needed)} of memory, "
            f"but {memory_text(allowed)} are allowed. Allow more, or use a smaller upscaling factor."
        )


def _estimate_bytes(image: ImageData, size: tuple[int, int], upscaler: Upscaler | None) -> int:
    channels = image.pixels.shape[2] + (image.alpha is not None)
    pixels = size[0] * size[1]
    network_pixels = 0 if upscaler is None else image.width * image.height * upscaler.scale**2
    # The network's output, resized and clipped, in float32 RGB.
    intermediate = 12 * (network_pixels + 2 * pixels) if network_pixels not in (0, pixels) else 0
    return pixels * memory_estimate.bytes_per_pixel(channels * image.pixels.itemsize) + intermediate

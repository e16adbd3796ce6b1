"""The whole picture enlarged, by Lanczos or by a network in tiles."""

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
from ..images import memory_estimate
from ..images.image import FLOATS, FloatImage, Picture, Pixels, Region
from ..images.resize import Filter, resize
from ..network.module_loading import compute_in
from ..progress import Progress, ProgressEvent
from .devices import FREE_SHARE, budget, host_bytes
from .lazy import Lazy
from .rrdb import RRDBLayout

log = logging.getLogger(__name__)

LANCZOS = "lanczos"
CONTEXT = 24  # pixels around a tile that the network sees, too: docs/faces.md
GRID = 4  # tiles begin at multiples of this, so that pixels become channels as they do in the whole picture
SMALLEST_TILE, LARGEST_TILE = 32, 256  # pixels a side, without those around; of GRID
ROWS = 256  # are written at once
UPSCALING = "Upscaling the image"


class Upscaler:
    """An RRDBNet on its device."""

    def __init__(
        self,
        network: nn.Module,
        layout: RRDBLayout,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        load_exact: Callable[[], Upscaler] | None = None,
    ) -> None:
        """`network` is in float32; its convolutions will compute in `dtype`, but for the last. `load_exact` gives the same
        in float32, for tiles that are not finite in half precision."""
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)][-1:]
        self.network = compute_in(network, dtype, *last)
        self.layout, self.device, self.dtype = layout, device, dtype
        self._exact = None if load_exact is None or dtype == torch.float32 else Lazy(lambda progress: load_exact())
        self._largest = LARGEST_TILE

    @property
    def scale(self) -> int:
        return self.layout.scale

    def modules(self) -> tuple[nn.Module, ...]:
        """Its own network, and the one in float32 if a tile has needed it."""
        exact = None if self._exact is None else self._exact.loaded
        return (self.network,) if exact is None else (self.network, *exact.modules())

    def tiles(self, picture: Picture, progress: Progress, max_memory: int | None) -> Iterator[tuple[Region, FloatImage]]:
        """The picture's tiles, and what the network makes of each: [h * scale, w * scale, 3] RGB in [0, 1].

        `progress` is told before each; `max_memory` bounds the network's activations in bytes. Where the memory of the
        device runs out, tiles become smaller from then on; `OutOfMemory` where the smallest do not fit."""
        side = self._side(max_memory)
        todo, done = _split([picture.whole], side), 0
        while todo:
            progress(ProgressEvent("upscale", done, done + len(todo), "tile", UPSCALING))
            try:
                enlarged = self._tile(picture, todo[0])
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if side <= SMALLEST_TILE:
                    raise OutOfMemory(
                        f"There is not enough memory to enlarge {side} x {side} pixels ({first_line(error)}). Close "
                        "other programs, take the upscaler lanczos, or compute on the CPU."
                    ) from error
                self._largest = side = max(SMALLEST_TILE, side // 2)
                log.warning("Out of memory while enlarging; going on in tiles of %d pixels.", side)
                todo = _split(todo, side)
                continue
            yield todo.pop(0), enlarged
            done += 1
        progress(ProgressEvent("upscale", done, done, "tile", UPSCALING))

    def _side(self, max_memory: int | None) -> int:
        """Pixels of a tile's side that fit. Raises `OutOfMemory` where the smallest does not fit into `max_memory`."""
        allowed = budget(self.device, max_memory)
        if allowed is None:
            return self._largest
        pixel = self.layout.pixel_elements * torch.empty(0, dtype=self.dtype).element_size()
        seen = SMALLEST_TILE + 2 * CONTEXT
        least = pixel * seen**2
        if max_memory is not None and max_memory < least:
            raise OutOfMemory(
                f"To enlarge, the upscaler looks at {seen} x {seen} pixels, which takes about {least / 2**20:.0f} MiB; the "
                f"budget is {max_memory / 2**20:.0f} MiB. Allow more, or take the upscaler lanczos."
            )
        fits = math.isqrt(allowed // pixel) - 2 * CONTEXT
        return min(self._largest, max(SMALLEST_TILE, fits // GRID * GRID))

    def _tile(self, picture: Picture, tile: Region) -> FloatImage:
        around = picture.around(tile, CONTEXT)
        rgb, x0, y0 = picture.region(around), tile.x0 - around.x0, tile.y0 - around.y0
        out = self._run(rgb)
        if not np.isfinite(out).all():
            out = self._redone(rgb)
        inner = Region(x0, y0, x0 + tile.x1 - tile.x0, y0 + tile.y1 - tile.y0)
        return np.clip(out[_times(inner, self.scale).slices], 0, 1)

    def _redone(self, rgb: FloatImage) -> FloatImage:
        out = None if self._exact is None else self._exact.get()._run(rgb)
        if out is None or not np.isfinite(out).all():
            raise WeightsError(
                "The upscaler's output is not finite: its weights are damaged, or not for pictures. Nothing was written; "
                "download the file again, or take the upscaler lanczos."
            )
        return out

    @torch.inference_mode()
    def _run(self, rgb: FloatImage) -> FloatImage:
        """[h, w, 3] in [0, 1] -> [h * scale, w * scale, 3]."""
        height, width = rgb.shape[:2]
        x = torch.from_numpy(rgb).to(self.device).permute(2, 0, 1)[None]  # HWC -> NCHW
        if self.layout.shuffle > 1:
            x = functional.pad(x, (0, -width % GRID, 0, -height % GRID), mode="replicate")
        y = self.network(x.to(self.dtype))[0].float().permute(1, 2, 0)  # NCHW -> HWC
        return np.asarray(y[: height * self.scale, : width * self.scale].cpu().numpy())


def _times(region: Region, scale: int) -> Region:
    return Region(*(scale * edge for edge in (region.x0, region.y0, region.x1, region.y1)))


def _split(regions: Sequence[Region], side: int) -> list[Region]:
    """The same in parts of at most `side` pixels each way, about equally large."""
    parts = []
    for region in regions:
        for y0, y1 in _cuts(region.y0, region.y1, side):
            parts += [Region(x0, y0, x1, y1) for x0, x1 in _cuts(region.x0, region.x1, side)]
    return parts


def _cuts(start: int, end: int, side: int) -> list[tuple[int, int]]:
    number = math.ceil((end - start) / side)
    step = math.ceil((end - start) / number / GRID) * GRID
    return [(at, min(at + step, end)) for at in range(start, end, step)]


def enlarged_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Width and height, rounded."""
    return round(size[0] * factor), round(size[1] * factor)


def enlarge(
    picture: Picture, factor: float, upscaler: Upscaler | None, progress: Progress, max_memory: int | None = None
) -> Picture:
    """The whole picture `factor` times as large, of the same kind: by `upscaler`, by Lanczos where that is None.

    The network runs once. Where it enlarges more, its picture is reduced by area; where it enlarges less, Lanczos does the
    rest. Alpha is enlarged bilinearly. `max_memory` is in bytes and bounds the network's activations, and as much again the
    pictures (without it, most of the machine's memory does): `OutOfMemory` says so before anything is computed. `progress`
    counts tiles (Lanczos: images) and stops the work by raising `Interrupted`."""
    size = enlarged_size(picture.size, factor)
    _refuse_too_large(picture, size, upscaler, max_memory)
    if upscaler is None:
        progress(ProgressEvent("upscale", 0, 1, "image", UPSCALING))
        pixels = _resized(picture.pixels, size, "lanczos")
    else:
        pixels = _by_network(picture, size, upscaler, progress, max_memory)
    alpha = None if picture.alpha is None else _resized(picture.alpha, size, "linear")
    return replace(picture, pixels=pixels, alpha=alpha)


def _by_network(
    picture: Picture, size: tuple[int, int], upscaler: Upscaler, progress: Progress, max_memory: int | None
) -> Pixels:
    width, height = size
    target = Picture(np.empty((height, width, picture.pixels.shape[2]), picture.pixels.dtype))
    native = (picture.width * upscaler.scale, picture.height * upscaler.scale)
    between = None if native == size else np.empty((native[1], native[0], 3), np.float32)
    for tile, rgb in upscaler.tiles(picture, progress, max_memory):
        place = _times(tile, upscaler.scale)
        if between is None:
            target.put(place, rgb, np.ones(rgb.shape[:2], np.bool_))
        else:
            between[place.slices] = rgb
    if between is not None:
        exact = np.clip(resize(between, size, "lanczos"), 0, 1, dtype=np.float32)
        for y in range(0, height, ROWS):
            rows = Region(0, y, width, min(y + ROWS, height))
            target.put(rows, exact[rows.slices], np.ones((rows.y1 - rows.y0, width), np.bool_))
    return target.pixels


def _resized(pixels: Pixels, size: tuple[int, int], enlarge: Filter) -> Pixels:
    """[H, W] or [H, W, C] enlarged, in its own type; floats stay within [0, 1]."""
    out = resize(pixels, size, enlarge)
    return np.asarray(np.clip(out, 0, 1) if pixels.dtype in FLOATS else out).astype(pixels.dtype, copy=False)


def _refuse_too_large(picture: Picture, size: tuple[int, int], upscaler: Upscaler | None, max_memory: int | None) -> None:
    host = host_bytes()
    allowed = max_memory if max_memory is not None else None if host is None else int(host * FREE_SHARE)
    needed = _bytes(picture, size, upscaler)
    if allowed is not None and needed > allowed:
        raise OutOfMemory(
            f"Enlarged to {size[0]} x {size[1]} pixels, the picture takes about {needed / 1e9:.2f} GB until it is written, "
            f"and {allowed / 1e9:.2f} GB are allowed. Nothing was computed: allow more, or enlarge it less."
        )


def _bytes(picture: Picture, size: tuple[int, int], upscaler: Upscaler | None) -> int:
    channels = picture.pixels.shape[2] + (picture.alpha is not None)
    pixels = size[0] * size[1]
    native = 0 if upscaler is None else picture.width * picture.height * upscaler.scale**2
    between = 12 * (native + 2 * pixels) if native not in (0, pixels) else 0  # float32 RGB; resized, and clipped
    return pixels * memory_estimate.per_pixel(channels * picture.pixels.itemsize) + between

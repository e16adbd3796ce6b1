"""The planes of a frame on a device, and RGB made from them there, as `planes.to_rgb` does with FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ..images.image import Region
from ..pipeline.torch_image import Copy, to_device
from ..pipeline.torch_resize import MAX_BAND_VALUES
from .planes import LUMA_COEFFICIENTS, ColorSpec, PixelFormat, Planes, aligned_boxes

CUBIC_SLOPE = -0.6  # of FFmpeg's bicubic filter
TAPS = np.arange(-1, 3)

COLUMN_BITS, ROW_BITS = 14, 12  # of FFmpeg's weights
CHROMA_BITS = 9  # below the point, after both filters

Span = tuple[int, int]


@dataclass(frozen=True)
class ChromaLayout:
    """Where the chroma samples of a frame are, before it was turned upright."""

    x: float = 0.5
    """Of a sample among the pixels that share it: 0 is the left one, 0.5 the middle. `y` is the same vertically."""
    y: float = 0.5
    orientation: int = 1
    """EXIF orientation (1 to 8) that turned the frame upright."""

    @property
    def is_transposed(self) -> bool:
        return self.orientation >= 5

    def taps(self, planes: Planes) -> tuple[_Taps, _Taps]:
        """Return those of the rows and of the columns of upright planes."""
        layout, (width, height) = planes.layout, planes.size
        places, bits = (self.y, self.x), (ROW_BITS, COLUMN_BITS)
        if self.is_transposed:
            places, bits = (self.x, self.y), (COLUMN_BITS, ROW_BITS)
        rows = _taps(height, layout.subsampling_y, places[0], bits[0], self.orientation in (3, 4, 7, 8))
        columns = _taps(width, layout.subsampling_x, places[1], bits[1], self.orientation in (2, 3, 6, 7))
        return rows, columns


CENTERED = ChromaLayout()


@dataclass(frozen=True, eq=False)
class DevicePlanes:
    """A part of a frame's planes on a device, without alpha. All regions are in pixels of the whole frame."""

    source: Planes
    chroma: ChromaLayout
    samples: tuple[torch.Tensor, ...]
    """For each plane [h, w], as in `torch_image.to_device`: uint8, or int32 for more than 8 bits."""
    origins: tuple[tuple[int, int], ...]
    """For each plane: row and column of its first sample."""

    @classmethod
    def upload(
        cls,
        planes: Planes,
        region: Region,
        device: torch.device,
        copy: Copy = to_device,
        chroma: ChromaLayout = CENTERED,
    ) -> DevicePlanes:
        """Upload what RGB of the region is made from. If memory runs out, torch's error is raised."""
        windows = [_needed(planes, number, region, chroma) for number in range(planes.layout.color_planes)]
        samples = [
            copy(array[slice(*rows), slice(*columns)], device) for array, (rows, columns) in zip(planes.arrays, windows)
        ]
        return cls(planes, chroma, tuple(samples), tuple((rows[0], columns[0]) for rows, columns in windows))

    @property
    def device(self) -> torch.device:
        return self.samples[0].device

    def window(self, number: int, rows: Span, columns: Span) -> torch.Tensor:
        """Return these samples [h, w] of a plane."""
        y, x = self.origins[number]
        return self.samples[number][rows[0] - y : rows[1] - y, columns[0] - x : columns[1] - x]

    def to_rgb(self, region: Region) -> torch.Tensor:
        """Return RGB [h, w, 3] of the region: uint8, or int32 in [0, 65535] for more than 8 bits."""
        is_deep = self.source.layout.bits > 8
        top, dtype = (65535, torch.int32) if is_deep else (255, torch.uint8)
        step = max(1, MAX_BAND_VALUES // (3 * (region.x1 - region.x0)))
        bands = []
        for y in range(region.y0, region.y1, step):
            rgb = torch.stack(self._rgb(Region(region.x0, y, region.x1, min(y + step, region.y1))), 2)
            bands.append(rgb if rgb.dtype == dtype else rgb.clamp_(0, top).to(dtype))
        return bands[0] if len(bands) == 1 else torch.cat(bands)

    def _rgb(self, band: Region) -> list[torch.Tensor]:
        """Return red, green and blue [h, w] as integers, which may be negative or more than white."""
        layout = self.source.layout
        rows, columns = (band.y0, band.y1), (band.x0, band.x1)
        first = self.window(0, rows, columns)
        to_full_depth = 0 if layout.bits == 8 else 16 - layout.bits
        if layout.kind == "gbrp":
            red, green, blue = self.window(2, rows, columns), first, self.window(1, rows, columns)
            return [one << to_full_depth for one in (red, green, blue)]
        if layout.kind == "gray":  # FFmpeg takes all gray for full range
            return [first << to_full_depth] * 3
        # 32 bits are enough for samples of 8, and overflow where FFmpeg's do: for colors twice as bright as white
        dtype, shift = (torch.int32, 22) if layout.bits == 8 else (torch.int64, 14)
        matrix = _Matrix.of(self.source.colors, self.source.size)
        luma = ((first.to(dtype) << 17 - layout.bits) - matrix.black) * matrix.luma + (1 << shift - 1)
        blueness, redness = (self._chroma(band, dtype) - (128 << CHROMA_BITS)).unbind()
        green = luma + redness * matrix.red_to_green + blueness * matrix.blue_to_green
        return [one >> shift for one in (luma + redness * matrix.red, green, luma + blueness * matrix.blue)]

    def _chroma(self, band: Region, dtype: torch.dtype) -> torch.Tensor:
        """[2, h, w]: Cb and Cr of each pixel, of 8 bits and `CHROMA_BITS` below the point. Enlarged across, then down."""
        depth = self.source.layout.bits
        (y, x), (rows, columns) = self.origins[1], self.chroma.taps(self.source)
        low, high = rows.span(band.y0, band.y1)
        left, right = columns.span(band.x0, band.x1)
        both = torch.stack(self.samples[1:3])[:, low - y : high - y, left - x : right - x].to(dtype)
        passes = [(columns, 2, (band.x0, band.x1), left), (rows, 1, (band.y0, band.y1), low)]
        first, second = reversed(passes) if self.chroma.is_transposed else passes
        bits = 15 if depth == 8 else 19  # of a sample between the filters
        both = first[0].apply(both, *first[1:]) >> depth + COLUMN_BITS - bits
        both = second[0].apply(both.clamp_(max=2**bits - 1), *second[1:])
        rest = bits + ROW_BITS - 8 - CHROMA_BITS
        rounding = 1 << rest - 1 if depth == 8 else 0
        return (both + rounding) >> rest


@dataclass(frozen=True)
class _Matrix:
    """From luma and chroma to RGB (ITU-T H.273, 8.3), as integers with 13 bits below the point, as in FFmpeg."""

    black: int
    """Luma of black, with `CHROMA_BITS` below the point."""
    luma: int
    red: int
    blue: int
    red_to_green: int
    blue_to_green: int

    @classmethod
    def of(cls, colors: ColorSpec, size: tuple[int, int]) -> _Matrix:
        # Y = red R + green G + blue B, Cb = (B - Y) / (2 - 2 blue), Cr = (R - Y) / (2 - 2 red)
        red, blue = LUMA_COEFFICIENTS[colors.effective_matrix(size)]
        to_red, to_blue, green = 2 - 2 * red, 2 - 2 * blue, 1 - red - blue
        exact = (to_red, to_blue, -to_red * red / green, -to_blue * blue / green)
        fixed = [round(one * 255 / 224 * 2**16) for one in exact]  # of the limited range, from which the full one follows
        black, luma = 16 << CHROMA_BITS, 2**16 * 255 // 219
        if colors.is_full_range:
            black, luma, fixed = 0, 2**16, [int(one * 224 / 255) for one in fixed]
        return cls(black, *(one + 4 >> 3 for one in (luma, *fixed)))


@dataclass(frozen=True, eq=False)
class _Taps:
    """The chroma samples from which each pixel along an axis is interpolated."""

    indices: NDArray[np.int64]
    """[K, n]."""
    weights: NDArray[np.int64]
    """[K, n]: parts of `one`."""
    one: int

    def span(self, start: int, stop: int) -> Span:
        """Return the first and the last sample, plus one, for some pixels."""
        return int(self.indices[:, start:stop].min()), int(self.indices[:, start:stop].max()) + 1

    def apply(self, samples: torch.Tensor, dim: int, pixels: Span, origin: int) -> torch.Tensor:
        """Interpolate along a dimension of [B, h, w], whose first sample is number `origin`. The result is times `one`."""
        if len(self.indices) == 1:
            return samples.narrow(dim, pixels[0] - origin, pixels[1] - pixels[0]) * self.one
        indices, weights = _on_device(self, samples.device, samples.dtype)
        total: torch.Tensor | int = 0
        for index, weight in zip(indices[:, slice(*pixels)] - origin, weights[:, slice(*pixels)]):
            total = total + samples.index_select(dim, index) * weight.view([-1 if n == dim else 1 for n in range(3)])
        assert isinstance(total, torch.Tensor)
        return total


@lru_cache(maxsize=16)
def _taps(pixels: int, subsampling: int, place: float, bits: int, is_mirrored: bool) -> _Taps:
    """Return the samples for all `pixels` of an axis, with weights of some bits. Samples beyond the border repeat the last.

    As in FFmpeg, the samples are stretched over the axis, so that with an odd number of pixels they move by up to half a
    pixel, and the first pixels leave out the farthest sample at their left."""
    one = 2**bits
    if subsampling == 1:
        return _Taps(np.arange(pixels)[None], np.full((1, pixels), one), one)
    samples = -(-pixels // subsampling)
    step = ((samples << 16) + (pixels >> 1)) // pixels / 65536
    places = (np.arange(pixels) + 0.5) * step - (place * (subsampling - 1) + 0.5) / subsampling
    indices = np.floor(places).astype(np.int64) + TAPS[:, None]
    weights = np.where(indices >= np.trunc(places - 1.5), _cubic(np.abs(indices - places)), 0)
    indices, parts = indices.clip(0, samples - 1), _rounded(weights / weights.sum(0), one)
    if is_mirrored:
        indices, parts = (samples - 1 - indices)[:, ::-1].copy(), parts[:, ::-1].copy()
    return _Taps(indices, parts, one)


def _rounded(weights: NDArray[np.float64], one: int) -> NDArray[np.int64]:
    """Round weights [K, n] to parts of `one`. What a weight loses or gains goes to the next, so that their sum stays 1."""
    return np.asarray(np.diff(np.rint(np.cumsum(weights, 0) * one), axis=0, prepend=0), np.int64)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of samples (Keys, IEEE Trans. ASSP 29(6), 1981, equation 4, with another slope)."""
    a, d = CUBIC_SLOPE, distance
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d < 1, near, np.where(d < 2, far, 0)))


@lru_cache(maxsize=16)  # callers must not modify the result
def _on_device(taps: _Taps, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(taps.indices).to(device), torch.from_numpy(taps.weights).to(device, dtype)


def plane_window(layout: PixelFormat, number: int, box: Region) -> tuple[Span, Span]:
    """Return the rows and columns of a plane that cover a box, which is aligned to chroma samples."""
    across, down = layout.subsampling(number)
    return (box.y0 // down, -(-box.y1 // down)), (box.x0 // across, -(-box.x1 // across))


def _needed(planes: Planes, number: int, region: Region, chroma: ChromaLayout) -> tuple[Span, Span]:
    """Return the rows and columns of a plane that cover a region and from which its pixels are interpolated."""
    layout = planes.layout
    (box,) = aligned_boxes([region], layout, planes.size)
    rows, columns = plane_window(layout, number, box)
    if number == 0 or layout.kind != "yuv":
        return rows, columns
    down, across = chroma.taps(planes)
    return _join(rows, down.span(region.y0, region.y1)), _join(columns, across.span(region.x0, region.x1))


def _join(one: Span, other: Span) -> Span:
    return min(one[0], other[0]), max(one[1], other[1])

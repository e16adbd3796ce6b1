"""Averages a frame with its neighbors and keeps the detail that they have in common.

The flow is off by fractions of a pixel, and faces deform, so an average along the flow has less fine detail than its frames.
The lost share is measured without noise: the frame, the neighbors before it and those after it have independent noise, so
the covariance of two of them contains only their common detail. The average's detail is amplified by that share. Where it
is still less precise than the frame's own detail, it counts less. All this is done with the luma, which contains nearly all
fine detail of faces. The chroma is the average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ..images.image import FloatImage, Region

BANDS = (1.0, 2.0)  # px: detail between the standard deviations of these Gaussians, from 0
WINDOW = 25  # px: standard deviation of the windows in which detail is compared
GRID = 4  # px between the windows
SIGMAS = 3  # standard deviations that a blur reaches; the rest of the Gaussian is 0.3 %
REACH = SIGMAS * round(sum(BANDS))  # px, of the blurs of both bands
HALO = -(-REACH // GRID) * GRID  # px: the same in whole windows
STRIP_ROWS = 64  # px
MIN_SHARE = 0.5  # detail is at most doubled
NEIGHBOR_WEIGHT = 2.0  # times the share with the smallest error, because flicker is more visible than lost detail
MIN_WEIGHT = 0.05  # of the neighbors on each side, where detail is compared
TINY_WEIGHT = 1e-3
DOUBT = 0.2  # of the neighbors' squared noise: pulls the measured share toward 1 where noise dominates
TINY_POWER = 1e-9  # squared, of the range


@dataclass(frozen=True, eq=False)
class WarpedMean:
    """Weighted sum of neighbors that are warped onto a frame."""

    values: FloatImage
    """[h, w] or [h, w, 3]: sum of the weighted values, in [0, 1] times the weight."""
    weight: FloatImage
    """[h, w]: sum of the weights; the frame itself has 1."""

    @classmethod
    def zeros(cls, image: FloatImage) -> WarpedMean:
        """Return a sum without neighbors for images like this one."""
        return cls(np.zeros_like(image), np.zeros(image.shape[:2], np.float32))


def merge(current: FloatImage, before: WarpedMean, after: WarpedMean, region: Region | None = None) -> FloatImage:
    """Return the weighted mean of the frame [h, w] or [h, w, 3] in [0, 1] and its neighbors before and after it.

    Of color images it keeps the luma's common detail. Where neighbors have no weight, the frame stays as it is. `region`:
    the part that the neighbors cover; without it they cover the whole frame. `HALO` px at its borders inside the frame have
    no weight, and its corners are multiples of `GRID`."""
    region = region or Region(0, 0, current.shape[1], current.shape[0])
    out = current.copy()
    result = out[region.slices]
    if current.ndim == 2:
        result[...] = (result + before.values + after.values) / (1 + before.weight + after.weight)
        return out
    bands = _compare_detail(current, before, after, region)
    colors = np.empty((STRIP_ROWS * 3 // 2, *result.shape[1:]), np.float32)  # new ones would cost more than the arithmetic
    for rows, _, _ in _strips(len(result)):
        strip, repeated = result[rows], colors[: rows.stop - rows.start]
        rest = np.asarray(1 / (1 + before.weight[rows] + after.weight[rows]), np.float32)
        strip += before.values[rows]
        strip += after.values[rows]
        strip *= repeat_channels(rest, repeated)
        lost, share = np.zeros_like(rest), 1 - rest
        for band in bands:
            band.add_lost(lost, share, rows)
        strip += repeat_channels(lost, repeated)
    return out


@dataclass(frozen=True, eq=False)
class _Band:
    """Detail of the luma between two blurs, and how much of it the neighbors keep. All are [h, w]."""

    own: FloatImage
    """Detail of the frame."""
    common: FloatImage
    """Detail of its neighbors' mean."""
    best: FloatImage
    """Best share of the neighbors in the result's detail."""
    kept: FloatImage
    """Share of the detail that the neighbors' mean keeps."""

    def add_lost(self, lost: FloatImage, share: FloatImage, rows: slice) -> None:
        """Add to `lost` what the weighted mean lacks in `rows`. `share`: that of the neighbors in the mean."""
        used = np.minimum(share, self.best[rows])
        cv2.accumulateProduct(self.own[rows], share - used, lost)
        cv2.accumulateProduct(self.common[rows], used / self.kept[rows] - share, lost)


def _blur(image: FloatImage, sigma: float) -> FloatImage:
    side = 2 * math.ceil(SIGMAS * sigma) + 1
    return np.asarray(cv2.GaussianBlur(image, (side, side), sigma), np.float32)


def repeat_channels(factor: FloatImage, out: FloatImage) -> FloatImage:
    """Copy `factor` [h, w] into all channels of `out` [h, w, 3], for products. NumPy is slow where one has no channels."""
    cv2.merge((factor, factor, factor), out)
    return out


def _divide_with_trace(values: FloatImage, weight: FloatImage, current: FloatImage) -> None:
    """Divide weighted `values` by their `weight`. A trace of `current` is added, and remains where there is no weight."""
    cv2.scaleAdd(current, TINY_WEIGHT, values, values)
    values /= weight + np.float32(TINY_WEIGHT)


def _strips(height: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield strips of whole windows: their rows, the rows that their blurred pixels depend on, and the rows in these.

    Strips fit into the processor's cache. New arrays of the whole size would cost more than the arithmetic on them."""
    edges = [*range(0, max(GRID, height - STRIP_ROWS // 2), STRIP_ROWS), height]
    for first, last in pairwise(edges):
        low, high = max(0, first - REACH), min(height, last + REACH)
        yield slice(first, last), slice(low, high), slice(first - low, last - low)


def _compare_detail(current: FloatImage, before: WarpedMean, after: WarpedMean, region: Region) -> list[_Band]:
    """Return the bands of detail in `region`. Outside it nothing is compared."""
    whole, current = current.shape[1::-1], current[region.slices]
    height, width = current.shape[:2]
    details = np.empty((len(BANDS), 2, height, width), np.float32)
    windows = np.zeros((1 + 4 * len(BANDS), *(max(1, side // GRID) for side in whole[::-1])), np.float32)
    x, y, size = region.x0 // GRID, region.y0 // GRID, (max(1, width // GRID), max(1, height // GRID))
    found = windows[:, y : y + size[1], x : x + size[0]]
    for rows, wide, inner in _strips(height):
        compared = np.asarray(np.minimum(before.weight[rows], after.weight[rows]) > MIN_WEIGHT, np.float32)
        places = slice(rows.start // GRID, None if rows.stop == height else rows.stop // GRID)
        lumas = _lumas(current[wide], *(WarpedMean(one.values[wide], one.weight[wide]) for one in (before, after)))
        means = [compared]
        for sigma, detail in zip(BANDS, details):
            coarse = [_blur(one, sigma) for one in lumas]
            own, common, earlier, later = (one[inner] - other[inner] for one, other in zip(lumas, coarse))
            detail[0, rows], detail[1, rows] = own, common
            means += _products([own, common, earlier, later], compared)
            lumas = coarse
        for mean, target in zip(means, found[:, places]):
            cv2.resize(mean, target.shape[::-1], dst=target, interpolation=cv2.INTER_AREA)
    area, *rest = windows
    shares = (_best_share(area, *rest[n : n + 4], size=whole) for n in range(0, len(rest), 4))
    return [_Band(*detail, *(one[region.slices] for one in share)) for detail, share in zip(details, shares)]


def _lumas(current: FloatImage, before: WarpedMean, after: WarpedMean) -> list[FloatImage]:
    """Return the luma of the frame, its neighbors, the earlier and the later ones."""
    own, earlier, later = (_luma(one) for one in (current, before.values, after.values))
    both = np.asarray(earlier + later, np.float32)
    for values, weight in ((both, before.weight + after.weight), (earlier, before.weight), (later, after.weight)):
        _divide_with_trace(values, weight, own)
    return [own, both, earlier, later]


def _products(details: list[FloatImage], compared: FloatImage) -> Iterator[FloatImage]:
    """Yield what is averaged in each window, as `_best_share` expects it. `details` as `_lumas`."""
    own, common, earlier, later = details
    own_compared = own * compared
    yield (earlier + later) * own_compared
    yield earlier * compared * later
    yield own * own_compared
    yield common * compared * common


def _best_share(*windows: FloatImage, size: tuple[int, int]) -> tuple[FloatImage, FloatImage]:
    """Return the best share of the neighbors in a band, and the share of detail that they keep, both in this size.

    `windows`: the compared share of each window, and the means of `_products`."""
    area, with_own, among, own_power, common_power = (
        np.asarray(cv2.GaussianBlur(one, (0, 0), WINDOW / GRID), np.float32) for one in windows
    )
    with_own = np.asarray(with_own / 2, np.float32)
    doubt = DOUBT * np.maximum(common_power - among, 0) + TINY_POWER
    kept = np.asarray(np.clip((among + doubt) / (with_own + doubt), MIN_SHARE, 1), np.float32)
    signal = np.maximum(with_own, 0) / kept
    own_noise = np.maximum(own_power - signal, 0) + TINY_POWER
    common_noise = (np.maximum(common_power - kept * kept * signal, 0) + TINY_POWER) / (kept * kept)
    best = np.asarray(NEIGHBOR_WEIGHT * own_noise / (own_noise + common_noise), np.float32)
    unknown = area < MIN_WEIGHT
    best[unknown], kept[unknown] = 1, 1
    best, kept = (np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_LINEAR), np.float32) for one in (best, kept))
    return best, kept


def _luma(image: FloatImage) -> FloatImage:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)

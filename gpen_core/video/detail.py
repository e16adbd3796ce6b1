"""Averages a frame with its neighbors and keeps the detail that they have in common.

The flow is off by fractions of a pixel, and faces deform, so an average along the flow has less fine detail than its frames.
The lost share is measured without noise: the frame, the neighbors before it and those after it have independent noise, so
the covariance of two of them contains only their common detail. The average's detail is amplified by that share. Where it
is still less precise than the frame's own detail, it counts less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ..images.image import FloatImage

BANDS = (1.0, 2.0)  # px: detail between the standard deviations of these Gaussians, from 0
WINDOW = 25  # px: standard deviation of the windows in which detail is compared
GRID = 4  # px between the windows
STRIP_ROWS, HALO = 64, 12  # px: of a strip, and what the blurs of both bands reach
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


def merge(current: FloatImage, before: WarpedMean, after: WarpedMean) -> FloatImage:
    """Return the weighted mean of the frame [h, w] or [h, w, 3] in [0, 1] and its neighbors before and after it.

    Of color images it keeps the common detail. Where neighbors have no weight, the frame stays as it is."""
    if current.ndim == 2:
        return np.asarray((current + before.values + after.values) / (1 + before.weight + after.weight), np.float32)
    shares = _detail_shares(current, before, after)
    out = np.empty_like(current)
    for rows, wide, inner in _strips(len(current)):
        own, total, weight = (
            current[wide],
            before.values[wide] + after.values[wide],
            before.weight[wide] + after.weight[wide],
        )
        common = _add_tiny(total, own, weight)
        share = np.asarray(weight[inner] / (1 + weight[inner]), np.float32)
        merged = scale_channels((own + total)[inner], 1 - share)
        for sigma, (best, kept) in zip(BANDS, shares):
            used = np.asarray(np.minimum(share, best[rows]), np.float32)
            own, detail = _split_band(own, sigma, inner)
            merged += scale_channels(detail, share - used)
            common, detail = _split_band(common, sigma, inner)
            merged += scale_channels(detail, used / kept[rows] - share)
        out[rows] = merged
    return out


def scale_channels(image: FloatImage, factor: FloatImage) -> FloatImage:
    """Return `image` [h, w] or [h, w, 3] times `factor` [h, w]. NumPy needs ten times as long for three channels."""
    return image * (factor if image.ndim == 2 else np.asarray(cv2.merge((factor, factor, factor)), np.float32))


def _add_tiny(values: FloatImage, current: FloatImage, weight: FloatImage) -> FloatImage:
    """Return the mean of weighted `values` and a trace of `current`, which alone remains where there is no weight."""
    return scale_channels(values + TINY_WEIGHT * current, np.asarray(1 / (weight + TINY_WEIGHT), np.float32))


def _strips(height: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield strips of whole windows: their rows, the rows that their blurred pixels depend on, and the rows in these.

    Strips fit into the processor's cache. New arrays of the whole size would cost more than the arithmetic on them."""
    edges = [*range(0, max(GRID, height - STRIP_ROWS // 2), STRIP_ROWS), height]
    for first, last in pairwise(edges):
        low, high = max(0, first - HALO), min(height, last + HALO)
        yield slice(first, last), slice(low, high), slice(first - low, last - low)


def _split_band(image: FloatImage, sigma: float, inner: slice) -> tuple[FloatImage, FloatImage]:
    """Return the blurred image, and the detail that the blur removes from its inner rows."""
    coarse = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    return coarse, np.subtract(image[inner], coarse[inner])


def _detail_shares(current: FloatImage, before: WarpedMean, after: WarpedMean) -> list[tuple[FloatImage, FloatImage]]:
    """Return for each band the best share of the neighbors in its detail, and the share of detail that they keep.

    All are [h, w]."""
    height, width = current.shape[:2]
    size = max(1, width // GRID), max(1, height // GRID)
    found = np.empty((len(BANDS), 5, *size[::-1]), np.float32)
    for rows, wide, inner in _strips(height):
        compared = np.asarray(np.minimum(before.weight[rows], after.weight[rows]) > MIN_WEIGHT, np.float32)
        places = slice(rows.start // GRID, None if rows.stop == height else rows.stop // GRID)
        lumas = _lumas(current[wide], *(WarpedMean(one.values[wide], one.weight[wide]) for one in (before, after)))
        for sigma, windows in zip(BANDS, found):
            bands = [_split_band(one, sigma, inner) for one in lumas]
            lumas = [coarse for coarse, _ in bands]
            for n, product in enumerate(_products([detail for _, detail in bands], compared)):
                rows_of_windows = windows[n, places]
                cv2.resize(product, rows_of_windows.shape[::-1], dst=rows_of_windows, interpolation=cv2.INTER_AREA)
    return [_best_share(windows, (width, height)) for windows in found]


def _lumas(current: FloatImage, before: WarpedMean, after: WarpedMean) -> list[FloatImage]:
    """Return the luma of the frame, its neighbors, the earlier and the later ones."""
    own, earlier, later = (_luma(one) for one in (current, before.values, after.values))
    means = ((earlier + later, before.weight + after.weight), (earlier, before.weight), (later, after.weight))
    return [own, *(_add_tiny(values, own, weight) for values, weight in means)]


def _products(details: list[FloatImage], compared: FloatImage) -> Iterator[FloatImage]:
    """Yield what is averaged in each window, as `_best_share` expects it. `details` as `_lumas`."""
    own, common, earlier, later = details
    yield compared
    yield (earlier + later) * own * compared
    yield earlier * later * compared
    yield own * own * compared
    yield common * common * compared


def _best_share(windows: FloatImage, size: tuple[int, int]) -> tuple[FloatImage, FloatImage]:
    """Return the best share of the neighbors in a band, and the share of detail that they keep, both in this size.

    `windows`: means of `_products`."""
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

"""Averages a frame with its neighbors and keeps the detail that they have in common.

The flow is off by fractions of a pixel, and faces deform, so an average along the flow has less fine detail than its frames.
The lost share is measured without noise: the frame, the neighbors before it and those after it have independent noise, so
the covariance of two of them contains only their common detail. The average's detail is amplified by that share. Where it
is still less precise than the frame's own detail, it counts less."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..images.image import FloatImage

BANDS = (1.0, 2.0)  # px: detail between the standard deviations of these Gaussians, from 0
WINDOW = 25  # px: standard deviation of the windows in which detail is compared
GRID = 4  # px between the windows
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
    """[S, S] or [S, S, 3]: sum of the weighted values, in [0, 1] times the weight."""
    weight: FloatImage
    """[S, S]: sum of the weights; the frame itself has 1."""


def merge(current: FloatImage, before: WarpedMean, after: WarpedMean) -> FloatImage:
    """Return the weighted mean of the frame [S, S] or [S, S, 3] in [0, 1] and its neighbors before and after it.

    Of color images it keeps the common detail. Where neighbors have no weight, the frame stays as it is."""
    weight = before.weight + after.weight
    total = before.values + after.values
    if current.ndim == 2:
        return np.asarray((current + total) / (1 + weight), np.float32)
    out = np.asarray((current + total) / (1 + weight)[..., None], np.float32)
    neighbors, earlier, later = (
        np.asarray((values + TINY_WEIGHT * current) / (some + TINY_WEIGHT)[..., None], np.float32)
        for values, some in ((total, weight), (before.values, before.weight), (after.values, after.weight))
    )
    compared = np.asarray(np.minimum(before.weight, after.weight) > MIN_WEIGHT, np.float32)
    share = weight / (1 + weight)
    images = [current, neighbors, *(_luma(one) for one in (current, neighbors, earlier, later))]
    for sigma in BANDS:
        blurred = [np.asarray(cv2.GaussianBlur(one, (0, 0), sigma), np.float32) for one in images]
        own, common, *details = (np.subtract(one, coarse) for one, coarse in zip(images, blurred))
        images = blurred
        weight_own, weight_common = _band_weights(details, compared, share)
        out += own * weight_own[..., None]
        out += common * weight_common[..., None]
    return out


def _band_weights(details: list[FloatImage], compared: FloatImage, share: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Return what to add of the frame's own detail and of its neighbors', as factors [S, S].

    `details`: luma of the frame, its neighbors, the earlier and the later ones. `share`: the neighbors' in the mean."""
    own, common, earlier, later = details
    size = max(1, len(own) // GRID)

    def window(product: FloatImage) -> FloatImage:
        small = cv2.resize(product, (size, size), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), WINDOW / GRID), np.float32)

    area = window(compared)
    with_own = window((earlier + later) * own * compared) / 2
    among = window(earlier * later * compared)
    own_power, common_power = window(own * own * compared), window(common * common * compared)
    doubt = DOUBT * np.maximum(common_power - among, 0) + TINY_POWER
    kept = np.asarray(np.clip((among + doubt) / (with_own + doubt), MIN_SHARE, 1), np.float32)
    signal = np.maximum(with_own, 0) / kept
    own_noise = np.maximum(own_power - signal, 0) + TINY_POWER
    common_noise = (np.maximum(common_power - kept * kept * signal, 0) + TINY_POWER) / (kept * kept)
    best = np.asarray(NEIGHBOR_WEIGHT * own_noise / (own_noise + common_noise), np.float32)
    unknown = area < MIN_WEIGHT
    best[unknown], kept[unknown] = 1, 1
    side = len(own)
    best, kept = (
        np.asarray(cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR), np.float32) for one in (best, kept)
    )
    used = np.asarray(np.minimum(share, best), np.float32)
    return share - used, used / kept - share


def _luma(image: FloatImage) -> FloatImage:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)

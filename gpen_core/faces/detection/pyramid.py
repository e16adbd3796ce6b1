"""The image pyramid: which level counts for which face sizes, and merging of their detections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..head_pose import PLAUSIBLE_RESIDUAL, estimate_pose

Detections = NDArray[np.float64]
"""[N, 15]: the columns are `BOX` (x0, y0, x1, y1), `SCORE`, and `LANDMARKS` (x, y of five points)."""
BOX, SCORE, LANDMARKS, COLUMN_COUNT = slice(0, 4), 4, slice(5, 15), 15
TOP_LEFT, BOTTOM_RIGHT = slice(0, 2), slice(2, 4)  # of the box

UPSCALE_TO, MAX_UPSCALE = 512, 2  # px and factor: upscaling a thumbnail costs little and helps detection
LEVEL_RATIO = 3  # between levels: all levels below the first together have 1/8 of its pixels
ASPECT_RATIO = 0.75  # `detection_size` is the longer side of a 4:3 image
MAX_RATIO = 400  # of the sides: a strip of about 90 px shows no faces, and its borders cost as much as the strip
NMS_IOU = 0.4  # boxes that overlap more are the same face, as in RetinaFace's own suppression
DISJOINT_IOS = 0.2  # of the smaller box: boxes that overlap less are separate faces
NESTED_IOS = 0.6  # of the smaller box: above it, the box is inside the other


@dataclass(frozen=True)
class ScaleRange:
    """Face sizes that a detector handles: shorter side of the box in pixels of the network's input."""

    min_size: float
    """About the smallest face that it finds at all."""
    reliable: tuple[float, float]
    """Range in which at least 99 % are found; a level counts for these."""
    accurate: tuple[float, float]
    """Range with the most accurate landmarks: 95 % within 3 % of the face width. Other faces are refined at that size."""
    max_reliable: float
    """Largest face that fills the image on the last level."""
    accepted: tuple[float, float]
    """Outside this range a face is left to the next level, if there is one."""
    max_size: float
    """About the largest face that it finds."""


# Measured for mobile0.25 (docs/detection-benchmarks.md). R50 has the same priors (16 to 512 px) and was trained on larger
# crops (840 px instead of 640), so the same range should hold; not measured, its weights were unavailable.
SCALE_RANGE = ScaleRange(
    min_size=16,
    reliable=(60, 180),
    accurate=(75, 150),
    max_reliable=256,
    accepted=(36, 300),
    max_size=430,
)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates from one image's levels; arrays of N."""

    rows: Detections
    """In image pixels."""
    is_in_range: NDArray[np.bool_]
    """Whether its level counts for faces of this size."""
    is_exact: NDArray[np.bool_]
    """Whether landmarks are most accurate at this size."""
    angle: NDArray[np.float64]
    """Clockwise rotation, in degrees, of the searched image relative to the original."""
    is_plausible: NDArray[np.bool_]
    """Whether the landmarks are those of a nearly upright head in the searched image."""

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Candidates:
        return Candidates(*(part[chosen] for part in vars(self).values()))

    @staticmethod
    def concatenate(parts: Sequence[Candidates]) -> Candidates:
        columns = zip(*(vars(part).values() for part in parts))
        return Candidates(*(np.concatenate(column) for column in columns))


def pyramid_sizes(size: tuple[int, int], detection_size: int, scale_range: ScaleRange) -> list[int]:
    """Return the longer side of each level for an image of this (width, height), largest first.

    The first level has at most the area of a 4:3 image with the longer side `detection_size`; thumbnails are upscaled. On
    the last level, a face that fills the image is within `max_reliable`."""
    longest = max(size)
    enlarged = min(UPSCALE_TO, MAX_UPSCALE * longest)
    sides = [min(max(longest, enlarged), _longest_within(size, ASPECT_RATIO * detection_size**2))]
    while sides[-1] > scale_range.max_reliable:
        sides.append(max(1, round(sides[-1] / LEVEL_RATIO)))
    return sides


def _longest_within(size: tuple[int, int], area: float) -> int:
    """Return the longer side at which an image of this aspect ratio has `area` pixels; less for images narrower than
    `MAX_RATIO`."""
    return max(1, round(math.sqrt(area * min(max(size) / min(size), MAX_RATIO))))


def pyramid_detectable_sizes(size: tuple[int, int], detection_size: int, scale_range: ScaleRange) -> tuple[float, float]:
    """Return about the smallest and largest detectable face (shorter side) in pixels of an image of this (width, height)."""
    longest, sides = max(size), pyramid_sizes(size, detection_size, scale_range)
    return scale_range.min_size * max(1, longest / sides[0]), min(longest, scale_range.max_size * longest / sides[-1])


def level_candidates(
    rows: Detections, scale: tuple[float, float], scale_range: ScaleRange, is_first: bool, is_last: bool
) -> Candidates:
    """Return the candidates that a level contributes from its `rows` [N, 15]. `scale` is image pixels per level pixel in
    x and y.

    Faces that are too large are left to the next smaller level, faces that are too small to the next larger one, if it
    exists."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    size = shorter_sides(rows)

    def within(low: float, high: float) -> NDArray[np.bool_]:
        return np.asarray((size >= (0 if is_first else low)) & (size <= (np.inf if is_last else high)))

    accepted = within(*scale_range.accepted)
    detections = rescale(rows[accepted], scale)
    is_in_range = within(*scale_range.reliable)
    is_exact = (size >= scale_range.accurate[0]) & (size <= scale_range.accurate[1])
    plausible = estimate_pose(rows[:, LANDMARKS]).plausible
    return Candidates(detections, is_in_range[accepted], is_exact[accepted], np.zeros(len(detections)), plausible[accepted])


def shift(rows: Detections, x: float, y: float) -> Detections:
    """Return the rows moved by `x` and `y` pixels."""
    return np.asarray(rows + np.array([x, y, x, y, 0.0, *(x, y) * 5]))


def rescale(rows: Detections, scale: tuple[float, float]) -> Detections:
    """Return the rows scaled by `scale` in x and y; integer coordinates are pixel centers."""
    out = rows.copy()
    for axis in (0, 1):
        places = [axis, axis + 2, *range(LANDMARKS.start + axis, LANDMARKS.stop, 2)]
        out[:, places] = (rows[:, places] + 0.5) * scale[axis] - 0.5
    return out


def merge_levels(found: Candidates) -> Candidates:
    """Keep one candidate per face: plausible heads first, then those in range, then by score."""
    order = np.lexsort((-found.rows[:, SCORE], ~found.is_in_range, ~found.is_plausible))
    return found.select(first_of_overlapping(found.rows, order))


def nms(rows: Detections) -> Detections:
    """Keep one row per face, best score first; plausible heads win over implausible ones."""
    impossible = estimate_pose(rows[:, LANDMARKS]).residual > PLAUSIBLE_RESIDUAL
    kept = rows[first_of_overlapping(rows, np.lexsort((-rows[:, SCORE], impossible)))]
    return kept[np.argsort(-kept[:, SCORE], kind="stable")]


def first_of_overlapping(rows: Detections, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the numbers in `order` [N] whose rows do not overlap the row of an earlier returned number with an IoU above
    `NMS_IOU`."""
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[~(iou_and_ios(rows[first], rows[order])[0] > NMS_IOU)]
    return np.array(kept, np.intp)


def suppress_nested(rows: Detections) -> Detections:
    """Remove rows that are parts of a face: of two nested boxes, the larger is the face.

    If the larger box contains several separate faces, it is a group mistaken for a face and is removed instead."""
    residual = estimate_pose(rows[:, LANDMARKS]).residual
    inside = np.zeros((len(rows), len(rows)), bool)  # [part, whole]
    for n, row in enumerate(rows):
        inside[n] = (iou_and_ios(row, rows)[1] > NESTED_IOS) & (shorter_sides(rows) > shorter_sides(row[None]))
    inside &= residual[None, :] <= np.maximum(residual[:, None], PLAUSIBLE_RESIDUAL)
    is_group = np.array([_count_disjoint(rows[inside[:, n]]) > 1 for n in range(len(rows))], bool)
    inside[:, is_group] = False
    return rows[~inside.any(axis=1) & ~is_group]


def _count_disjoint(rows: Detections) -> int:
    """Count the boxes, except those that overlap an already counted one by more than `DISJOINT_IOS`."""
    kept: list[int] = []
    for n in range(len(rows)):
        if not (iou_and_ios(rows[n], rows[kept])[1] > DISJOINT_IOS).any():
            kept.append(n)
    return len(kept)


def box_centers(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the center [N, 2] of each row's box, or that [2] of one row."""
    return np.asarray((rows[..., TOP_LEFT] + rows[..., BOTTOM_RIGHT]) / 2)


def shorter_sides(rows: Detections) -> NDArray[np.float64]:
    return np.asarray(_sides(rows).min(axis=1))


def _sides(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the width and height [N, 2] of each row's box, or those [2] of one row."""
    return np.asarray(rows[..., BOTTOM_RIGHT] - rows[..., TOP_LEFT])


def iou_and_ios(row: NDArray[np.float64], rows: Detections) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a box's intersection with each of N boxes, relative to the union and to the smaller box ([N] each)."""
    low, high = np.maximum(row[TOP_LEFT], rows[:, TOP_LEFT]), np.minimum(row[BOTTOM_RIGHT], rows[:, BOTTOM_RIGHT])
    common = np.clip(high - low, 0, None).prod(axis=1)
    one, many = _sides(row).prod(), _sides(rows).prod(axis=1)
    union, smaller = one + many - common, np.minimum(one, many)
    ratios = (np.divide(common, whole, out=np.zeros_like(common), where=whole > 0) for whole in (union, smaller))
    return next(ratios), next(ratios)

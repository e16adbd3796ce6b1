"""Which reduction of an image answers for which faces, and which of several answers is the face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..head_pose import PLAUSIBLE_RESIDUAL, estimate_pose

Detections = NDArray[np.float64]
"""[N, 15]: box x0, y0, x1, y1, score, then x, y of five landmarks"""

UPSCALE_TO, MAX_UPSCALE = 512, 2  # px and times: a thumbnail costs nothing, and faces are found better
LEVEL_RATIO = 3  # from level to level: those below the first together have 1/8 of its pixels
ASPECT_RATIO = 0.75  # of an image of 4:3: `detection_size` is its longer side
MAX_RATIO = 400  # of the sides: faces are not found in a strip of some 90 px, and its borders take as much as it does
NMS_IOU = 0.4  # of two boxes of one face, as RetinaFace's own suppression has it
NESTED_IOS = 0.6  # of the smaller of two boxes: it lies in the other


@dataclass(frozen=True)
class ScaleRange:
    """Sizes of faces that a detector is right for: shorter side of the box in pixels of what the network sees."""

    min_size: float
    """About the smallest that it finds at all."""
    reliable: tuple[float, float]
    """Where at least 99 % are found; a level answers for these."""
    accurate: tuple[float, float]
    """Where landmarks are the most exact: 95 % within 3 % of the face's width. Others are looked at again at that size."""
    max_reliable: float
    """On the last level a face that fills the image is at most this large."""
    accepted: tuple[float, float]
    """Outside of these a level leaves a face to the level above or below, where there is one."""
    max_size: float
    """About the largest that it finds."""
    is_measured: bool


# By docs/detection.md's table for mobile0.25. R50 has the same priors (16 to 512 px) and was trained on larger crops
# (840 px, not 640), so what holds for mobile0.25 should hold for it; its weights were not at hand.
SCALE_RANGE = {
    "retinaface_mobile0.25": ScaleRange(16, (60, 180), (75, 150), 256, (36, 300), 430, is_measured=True),
    "retinaface_resnet50": ScaleRange(16, (60, 180), (75, 150), 256, (36, 300), 430, is_measured=False),
}


@dataclass(frozen=True, eq=False)
class Candidates:
    """What one image's levels say; arrays of N."""

    rows: Detections
    """In pixels of the image."""
    is_in_range: NDArray[np.bool_]
    """Whether its level answers for faces of that size."""
    is_exact: NDArray[np.bool_]
    """Whether landmarks of faces of that size are as exact as they can be."""
    angle: NDArray[np.float64]
    """Degrees, clockwise, by which an upright head seen there is turned in the image."""
    is_plausible: NDArray[np.bool_]
    """Landmarks of a head that is nearly upright where it was seen."""

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Candidates:
        return Candidates(*(part[chosen] for part in vars(self).values()))

    @staticmethod
    def concatenate(parts: Sequence[Candidates]) -> Candidates:
        columns = zip(*(vars(part).values() for part in parts))
        return Candidates(*(np.concatenate(column) for column in columns))


def pyramid_sizes(size: tuple[int, int], detection_size: int, scale_range: ScaleRange) -> list[int]:
    """The longer side of each level of an image of that width and height, the largest first: from as many pixels as an
    image of 4:3 has whose longer side is `detection_size` (or from the image's own, if those are fewer; thumbnails are
    enlarged) down to one on which a face that fills the image is within `max_reliable`."""
    longest = max(size)
    enlarged = min(UPSCALE_TO, MAX_UPSCALE * longest)
    sides = [min(max(longest, enlarged), _longest_within(size, ASPECT_RATIO * detection_size**2))]
    while sides[-1] > scale_range.max_reliable:
        sides.append(max(1, round(sides[-1] / LEVEL_RATIO)))
    return sides


def _longest_within(size: tuple[int, int], area: float) -> int:
    """The longer side in pixels with which an image of those proportions has that area; what is narrower than `MAX_RATIO`
    gets less."""
    return max(1, round(math.sqrt(area * min(max(size) / min(size), MAX_RATIO))))


def pyramid_detectable_sizes(size: tuple[int, int], detection_size: int, scale_range: ScaleRange) -> tuple[float, float]:
    """Shorter sides, in pixels of an image of that width and height, of about the smallest and the largest face that are
    found."""
    longest, sides = max(size), pyramid_sizes(size, detection_size, scale_range)
    return scale_range.min_size * max(1, longest / sides[0]), min(longest, scale_range.max_size * longest / sides[-1])


def level_candidates(
    rows: Detections, scale: tuple[float, float], scale_range: ScaleRange, is_first: bool, is_last: bool
) -> Candidates:
    """What a level is believed in of its `rows` [N, 15]. `scale` is image pixels per level pixel in x and y.

    A level leaves what is too large for it to the one below, and what is too small to the one above, if there are such."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    size = shorter_sides(rows)

    def within(low: float, high: float) -> NDArray[np.bool_]:
        return np.asarray((size >= (0 if is_first else low)) & (size <= (np.inf if is_last else high)))

    accepted = within(*scale_range.accepted)
    detections = rescale(rows[accepted], scale)
    is_in_range = within(*scale_range.reliable)
    is_exact = (size >= scale_range.accurate[0]) & (size <= scale_range.accurate[1])
    plausible = estimate_pose(rows[:, 5:]).plausible
    return Candidates(detections, is_in_range[accepted], is_exact[accepted], np.zeros(len(detections)), plausible[accepted])


def shift(rows: Detections, by: float) -> Detections:
    """Rows moved by so many pixels in x and y."""
    out = rows + by
    out[:, 4] = rows[:, 4]
    return out


def rescale(rows: Detections, scale: tuple[float, float]) -> Detections:
    """Rows in pixels `scale` times as small, in x and y; whole numbers are the middles of pixels."""
    out = rows.copy()
    for axis in (0, 1):
        places = [axis, axis + 2, *range(5 + axis, 15, 2)]
        out[:, places] = (rows[:, places] + 0.5) * scale[axis] - 0.5
    return out


def merge_levels(found: Candidates) -> Candidates:
    """One of each face: a head that can be before one that cannot, then range, then score."""
    order = np.lexsort((-found.rows[:, 4], ~found.is_in_range, ~found.is_plausible))
    kept: list[int] = []
    for n in order:
        if not (iou_and_ios(found.rows[n], found.rows[kept])[0] > NMS_IOU).any():
            kept.append(n)
    return found.select(np.array(kept, np.intp))


def nms(rows: Detections) -> Detections:
    """One row of each face, the best score first: a head that can be before one that cannot."""
    impossible = estimate_pose(rows[:, 5:]).residual > PLAUSIBLE_RESIDUAL
    kept: list[int] = []
    for n in np.lexsort((-rows[:, 4], impossible)):
        if not (iou_and_ios(rows[n], rows[kept])[0] > NMS_IOU).any():
            kept.append(n)
    return rows[sorted(kept, key=lambda n: -rows[n, 4])]


def suppress_nested(rows: Detections) -> Detections:
    """The rows without parts of faces: of two boxes of which one lies in the other, the larger is the face.

    Not where it holds several that are none of each other's parts: then it is a group that looked like a face."""
    residual = estimate_pose(rows[:, 5:]).residual
    inside = np.zeros((len(rows), len(rows)), bool)  # [part, whole]
    for n, row in enumerate(rows):
        inside[n] = (iou_and_ios(row, rows)[1] > NESTED_IOS) & (shorter_sides(rows) > shorter_sides(row[None]))
    inside &= residual[None, :] <= np.maximum(residual[:, None], PLAUSIBLE_RESIDUAL)
    is_group = np.array([_count_disjoint(rows[inside[:, n]]) > 1 for n in range(len(rows))], bool)
    inside[:, is_group] = False
    return rows[~inside.any(axis=1) & ~is_group]


def _count_disjoint(rows: Detections) -> int:
    """How many of the boxes share nothing worth speaking of with one that counts already."""
    kept: list[int] = []
    for n in range(len(rows)):
        if not (iou_and_ios(rows[n], rows[kept])[1] > 0.2).any():
            kept.append(n)
    return len(kept)


def shorter_sides(rows: Detections) -> NDArray[np.float64]:
    return np.minimum(rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1])


def iou_and_ios(row: NDArray[np.float64], rows: Detections) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[N] each: common area of a box with each of N, as a part of both together, and of the smaller one."""
    low, high = np.maximum(row[:2], rows[:, :2]), np.minimum(row[2:4], rows[:, 2:4])
    common = np.clip(high - low, 0, None).prod(axis=1)
    one, many = (row[2:4] - row[:2]).prod(), (rows[:, 2:4] - rows[:, :2]).prod(axis=1)
    union, smaller = one + many - common, np.minimum(one, many)
    ratios = (np.divide(common, whole, out=np.zeros_like(common), where=whole > 0) for whole in (union, smaller))
    return next(ratios), next(ratios)

"""Refinement: searching uncertain candidates again in an upright crop at the detector's best size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..align import Alignment, invert_affine
from ..face import Box
from ..head_pose import MAX_POSE_RESIDUAL, MAX_UPRIGHT_ROLL, PLAUSIBLE_RESIDUAL, HeadPose, estimate_pose
from .pyramid import (
    BOTTOM_RIGHT,
    COLUMN_COUNT,
    LANDMARKS,
    NMS_IOU,
    SCORE,
    TOP_LEFT,
    Candidates,
    Detections,
    box_centers,
    iou_and_ios,
    shorter_sides,
)

DetectCropsFn = Callable[[Sequence[tuple[int, Alignment]], float], Iterable[Detections]]
"""((image index, crop) pairs, size in px below which faces may be missed) -> rows per crop in its pixels, with scores of at
least `MIN_SCORE`. Rows may be computed lazily."""

Pass = TypeVar("Pass")

CROP_SIZE, FACE_SIZE = 160, 96  # px: side of the crop, and of the face in it
REFINED_SIZES = (0.5 * FACE_SIZE, 1.6 * FACE_SIZE)  # px: smaller and larger boxes in the crop are other faces
BOX_CROP_SIZE, BOX_MARGIN = 224, 1.5  # px; margin factor around a user-supplied box
MIN_SCORE = 0.1
"""Minimum score of candidates to refine: 98 % of faces of 28 px have it, 90 % have 0.9."""
MAX_FAINT = 100  # per image, the best candidates below the requested confidence
ACCEPT_MARGIN = 0.1  # a faint candidate must reach 1 - 0.1 * (1 - confidence) when refined; real faces then score 0.99
BOX_CONFIDENCE = 0.5  # inside a user-supplied box, where a face is expected
CERTAIN_SCORE, CERTAIN_RESIDUAL = 0.99, 0.2  # below this certainty, the other rotations are tried, too
MAX_TILT = 15.0  # degrees: landmarks are off by 2 % of the face width at a roll of 15, by 4 % at 30
BATCH_SIZE = 16  # crops
MAX_ROUNDS = 3
MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]  # order of eyes, nose and mouth corners in the mirror image
EXTRA_ROTATIONS = (90.0, 180.0, 270.0)


@dataclass(frozen=True, eq=False)
class _CropRequest:
    """A square crop around `center` that shows a head rotated by `angle` degrees clockwise upright."""

    image_index: int
    center: NDArray[np.float64]
    side: float
    """Side of the square in image pixels."""
    angle: float
    size: int = CROP_SIZE
    is_mirrored: bool = False
    """Whether the crop shows its mirror image, left for right."""

    def alignment(self) -> Alignment:
        scale, turn = self.size / self.side, np.radians(-self.angle)
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = (self.size - 1) / 2
        matrix = np.column_stack((linear, middle - linear @ self.center))
        if self.is_mirrored:
            matrix[0] = -matrix[0]
            matrix[0, 2] += self.size - 1
        return Alignment(matrix, invert_affine(matrix), self.size)


@dataclass(frozen=True, eq=False)
class _CropResult:
    """The result of one crop: the row in image pixels, and how reliable it is."""

    row: NDArray[np.float64]
    angle: float
    """Rotation of the crop, in degrees."""
    residual: float
    roll: float
    """Roll within the crop, in degrees."""

    @property
    def score(self) -> float:
        return float(self.row[SCORE])

    @property
    def is_plausible(self) -> bool:
        return self.residual <= PLAUSIBLE_RESIDUAL and abs(self.roll) <= MAX_UPRIGHT_ROLL

    @property
    def is_certain(self) -> bool:
        """Whether the result needs no other rotation: true for 96 % of crops at the right angle and 0.4 % of 3,087 at a
        wrong one."""
        return self.score > CERTAIN_SCORE and self.residual <= CERTAIN_RESIDUAL and abs(self.roll) <= MAX_TILT

    @property
    def quality(self) -> tuple[bool, float]:
        """Sort key: fit to a head before score, because a head seen upside down also scores 0.99 but fits worse. It is
        right for 98 % of 1,424 faces at all angles."""
        return self.is_plausible, -(self.residual + abs(self.roll) / 360 + 30 * (1 - self.score))


class _Refinement:
    """The repeated search for one candidate in an image of `image_size` (width, height)."""

    def __init__(
        self,
        image_index: int,
        image_size: tuple[int, int],
        detection: NDArray[np.float64],
        angle: float,
        allow_rotation: bool,
        is_implausible: bool,
    ) -> None:
        """`is_implausible`: the landmarks fit no head, or one far from upright. Then all rotations are tried."""
        self.image_index = image_index
        self.has_mirrored = _reaches_beyond(*_search_square(detection), image_size)
        self.detection = detection
        self.allow_rotation = allow_rotation
        self.is_implausible = is_implausible
        self.results: list[_CropResult] = []
        self.next_angles = [angle]

    @property
    def best(self) -> _CropResult | None:
        return max(self.results, key=lambda one: one.quality, default=None)

    def next_crops(self) -> list[_CropRequest]:
        """Return the crops of the next round.

        The network sees faces that are cut off at the right better than the same faces cut off at the left. A crop that
        reaches past the image's edge is therefore followed by its mirror image."""
        center, side = _search_square(self.detection)
        angles, self.next_angles = self.next_angles, []
        mirrored = (False, True) if self.has_mirrored else (False,)
        return [
            _CropRequest(self.image_index, center, side, angle, is_mirrored=is_mirrored)
            for angle in angles
            for is_mirrored in mirrored
        ]

    def add_results(self, results: Sequence[_CropResult | None], confidence: float) -> None:
        """Record results, in the order of the crops, and decide whether, and at which angles, to search again."""
        is_first = not self.results
        if self.has_mirrored:
            results = [_merge_mirrored(*pair) for pair in zip(results[::2], results[1::2])]
        self.results += [one for one in results if one is not None]
        best = self.best
        if best is None or not self.allow_rotation:
            return
        if is_first and (self.is_implausible or not best.is_certain):
            self.next_angles = [best.angle + direction for direction in EXTRA_ROTATIONS]
        elif best.is_plausible and best.score > confidence and abs(best.roll) > MAX_TILT:
            self.next_angles = [best.angle + best.roll]


def refine_candidates(
    found: Sequence[Candidates],
    image_indices: Sequence[int],
    size: tuple[int, int],
    detect_crops: DetectCropsFn,
    confidence: float,
    allow_rotation: bool,
) -> list[Detections]:
    """Return per image the rows of the candidates that are faces, with scores above `confidence`. All images have this
    (width, height).

    Candidates are refined if they are below `confidence`, tilted, outside the size range with accurate landmarks, or fit
    no head. The others are returned unchanged. Candidates below `confidence` must then score higher than the others.
    `allow_rotation` allows rotated crops."""
    found = [_drop_unlikely(candidates, confidence) for candidates in found]
    refinements: list[list[_Refinement | None]] = []
    for image_index, candidates in zip(image_indices, found):
        pose = estimate_pose(candidates.rows[:, LANDMARKS])
        is_needed = _needs_refinement(candidates, pose, confidence, allow_rotation)
        fits = pose.residual <= PLAUSIBLE_RESIDUAL
        # The angle that makes the head upright: from the landmarks if they fit a head, else from the search.
        angles = np.where(fits, pose.roll, candidates.angle) if allow_rotation else np.zeros(len(candidates))
        implausible = ~fits | (np.abs(pose.roll) > MAX_UPRIGHT_ROLL)
        refinements.append(
            [
                _Refinement(image_index, size, candidates.rows[n], float(angles[n]), allow_rotation, bool(implausible[n]))
                if is_needed[n]
                else None
                for n in range(len(candidates))
            ]
        )
    _run_all([one for some in refinements for one in some if one is not None], detect_crops, confidence)
    return [_accepted_rows(candidates, some, confidence) for candidates, some in zip(found, refinements)]


def search_boxes(
    boxes: Sequence[Box],
    image_index: int,
    size: tuple[int, int],
    detect_crops: DetectCropsFn,
    confidence: float,
    allow_rotation: bool,
) -> Detections:
    """Return the faces inside these boxes of an image of this (width, height), at most one per box.

    User-supplied boxes are trusted, so a lower confidence is enough. Boxes without area or outside the image contain no
    face."""
    confidence = min(confidence, BOX_CONFIDENCE)
    boxes = [box for box in boxes if _overlaps_image(box, size)]
    angles = (0.0, *EXTRA_ROTATIONS) if allow_rotation else (0.0,)
    crops = [_box_crop(box, image_index, angle) for box in boxes for angle in angles]
    refinements = []
    for n, box in enumerate(boxes):
        some = _detect_in_crops(crops[n * len(angles) : (n + 1) * len(angles)], detect_crops, partial(_is_in_box, box))
        best = max((one for one in some if one is not None), key=lambda one: one.quality, default=None)
        if best is not None and best.residual <= MAX_POSE_RESIDUAL:
            angle = best.angle + (best.roll if allow_rotation else 0)
            refinements.append(_Refinement(image_index, size, best.row, angle, allow_rotation, False))
    _run_all(refinements, detect_crops, confidence)
    rows = [one.best.row for one in refinements if one.best is not None and one.best.score > confidence]
    return np.array(rows).reshape(-1, COLUMN_COUNT)


def _overlaps_image(box: Box, size: tuple[int, int]) -> bool:
    width, height = min(box[2], size[0]) - max(box[0], 0), min(box[3], size[1]) - max(box[1], 0)
    return min(width, height) >= 1


def _search_square(detection: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the center and side of the square that is searched for a candidate."""
    return box_centers(detection), float(shorter_sides(detection[None])[0]) * CROP_SIZE / FACE_SIZE


def _merge_mirrored(seen: _CropResult | None, mirrored: _CropResult | None) -> _CropResult | None:
    """Return the result of a crop and its mirror image: their mean if both show the same face, else the better one."""
    if seen is None or mirrored is None:
        return seen or mirrored
    best = max(seen, mirrored, key=lambda one: one.quality)
    if iou_and_ios(seen.row, mirrored.row[None])[0][0] < NMS_IOU:
        return best
    row = (seen.row + mirrored.row) / 2
    row[SCORE] = best.score
    return replace(best, row=row)


def _reaches_beyond(center: NDArray[np.float64], side: float, size: tuple[int, int]) -> bool:
    """Whether an upright square reaches past the edge of an image of this (width, height)."""
    low, high = center - side / 2, center + side / 2
    return bool((low < -0.5).any() or (high > np.array(size) - 0.5).any())


def _box_crop(box: Box, image_index: int, angle: float) -> _CropRequest:
    corners = np.array(box).reshape(2, 2)
    return _CropRequest(
        image_index, corners.mean(0), float((corners[1] - corners[0]).max()) * BOX_MARGIN, angle, BOX_CROP_SIZE
    )


def _is_in_box(box: Box, row: NDArray[np.float64]) -> bool:
    x, y = box_centers(row)
    whole = np.array([*box, *[0.0] * (COLUMN_COUNT - len(box))])
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3] and iou_and_ios(row, whole[None])[1][0] > 0.5)


def _needs_refinement(candidates: Candidates, pose: HeadPose, confidence: float, allow_rotation: bool) -> NDArray[np.bool_]:
    is_needed = (candidates.rows[:, SCORE] <= confidence) | ~candidates.is_exact
    if allow_rotation:
        rolled = np.abs((pose.roll - candidates.angle + 180) % 360 - 180)
        is_uncertain = (pose.residual > CERTAIN_RESIDUAL) | (candidates.rows[:, SCORE] <= CERTAIN_SCORE)
        is_needed |= is_uncertain | (rolled > MAX_TILT)
    return np.asarray(is_needed)


def _drop_unlikely(candidates: Candidates, confidence: float) -> Candidates:
    score = candidates.rows[:, SCORE]
    faint = np.flatnonzero(score <= confidence)
    dropped = faint[np.argsort(-score[faint], kind="stable")[MAX_FAINT:]]
    return candidates.select(np.setdiff1d(np.arange(len(candidates)), dropped))


def _accepted_rows(candidates: Candidates, refinements: Sequence[_Refinement | None], confidence: float) -> Detections:
    rows = []
    for row, one in zip(candidates.rows, refinements):
        if one is None:
            rows.append(row)
        elif one.best is not None:
            least = confidence if row[SCORE] > confidence else 1 - ACCEPT_MARGIN * (1 - confidence)
            if one.best.score > least:
                rows.append(one.best.row)
    return np.array(rows).reshape(-1, COLUMN_COUNT)


def _run_all(refinements: Sequence[_Refinement], detect_crops: DetectCropsFn, confidence: float) -> None:
    pending = list(refinements)
    for _ in range(MAX_ROUNDS):
        each = [one.next_crops() for one in pending]
        results = iter(_detect_in_crops([request for requests in each for request in requests], detect_crops, None))
        for one, requests in zip(pending, each):
            one.add_results([next(results) for _ in requests], confidence)
        pending = [one for one in pending if one.next_angles]


def _detect_in_crops(
    crops: Sequence[_CropRequest], detect_crops: DetectCropsFn, accepts: Callable[[NDArray[np.float64]], bool] | None
) -> list[_CropResult | None]:
    """Return each crop's best row: of those that pass `accepts` if it is given, else of those near the crop's center."""
    out: list[_CropResult | None] = []
    alignments = [request.alignment() for request in crops]
    wanted = [(request.image_index, alignment) for request, alignment in zip(crops, alignments)]
    min_size = REFINED_SIZES[0] if accepts is None else 0.0
    starts = range(0, len(wanted), BATCH_SIZE)
    passes = prefetch_one(detect_crops(wanted[start : start + BATCH_SIZE], min_size) for start in starts)
    for request, alignment, rows in zip(crops, alignments, chain.from_iterable(passes)):
        near = _near_center(rows, request.size) if accepts is None else np.ones(len(rows), bool)
        pose = estimate_pose(rows[:, LANDMARKS])
        detections = [
            _CropResult(
                _to_image_coords(row, alignment.inverse, request.is_mirrored),
                request.angle,
                float(pose.residual[n]),
                float(-pose.roll[n] if request.is_mirrored else pose.roll[n]),
            )
            for n, row in enumerate(rows)
            if near[n]
        ]
        accepted = [one for one in detections if accepts is None or accepts(one.row)]
        out.append(max(accepted, key=lambda one: one.quality, default=None))
    return out


def prefetch_one(passes: Iterable[Pass]) -> Iterator[Pass]:
    """Yield each pass after the next one has been started, so that a GPU works while results are read. Only one is
    started ahead, because results need memory."""
    started = iter(passes)
    for now in started:
        for following in started:
            yield now
            now = following
        yield now


def _near_center(rows: Detections, crop_size: int) -> NDArray[np.bool_]:
    """Return [N]: whether a row is the expected face and not its neighbor."""
    off = np.abs(box_centers(rows) - (crop_size - 1) / 2).max(axis=1)
    size = shorter_sides(rows)
    return np.asarray((off < FACE_SIZE / 2) & (size > REFINED_SIZES[0]) & (size < REFINED_SIZES[1]))


def _to_image_coords(row: NDArray[np.float64], inverse: NDArray[np.float64], is_mirrored: bool) -> NDArray[np.float64]:
    """Convert a crop's row to image pixels. The new box is the bounding box of the rotated ellipse in the old one."""
    linear, shift = inverse[:, :2], inverse[:, 2]
    center = linear @ box_centers(row) + shift
    half = np.hypot(*(linear * ((row[BOTTOM_RIGHT] - row[TOP_LEFT]) / 2)).T)
    points = row[LANDMARKS].reshape(5, 2) @ linear.T + shift
    if is_mirrored:
        points = points[MIRRORED_LANDMARKS]
    return np.array([*(center - half), *(center + half), row[SCORE], *points.ravel()])

"""Multi-scale detection: each face once, close-up or tiny, upright or rotated, without false positives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ...images.image import ImageData
from ...options import RestoreOptions
from ..align import Alignment
from ..face import Box
from ..head_pose import estimate_pose
from ..select import matches_box
from .image_source import BORDER, ImageBatch, ImageSourceFactory, OpenCVImageSource, amplify, white_points, with_border
from .pyramid import (
    BOX,
    COLUMN_COUNT,
    LANDMARKS,
    Candidates,
    Detections,
    ScaleRange,
    level_candidates,
    merge_levels,
    nms,
    pyramid_sizes,
    shift,
    suppress_nested,
)
from .refine import MIN_SCORE, prefetch_one, refine_candidates, search_boxes
from .rotation import unrotate90
from .windows import cut_window, rotate_window, search_windows

ForwardFn = Callable[[ImageBatch, float, float], Iterable[Detections]]
"""(batch, minimum score, size in px below which faces may be missed) -> rows per image in its pixels, after non-maximum
suppression. Rows may be computed lazily."""

UPRIGHT, ALL = "upright", "all"
QUARTER_TURNS = (0, 1, 2, 3)
MIN_CONFIDENCE = 0.01
"""A lower confidence counts as this. Every anchor scores above 0, and each of the 100,000 of a photo would be refined."""
# 99th percentile of an image's samples, of 255. Below MIN_WHITE nothing is visible in 8 bits. Below DARK_WHITE the image
# is dark: if no face is found, it is searched again with contrast stretched to STRETCHED_WHITE.
MIN_WHITE, DARK_WHITE, STRETCHED_WHITE = 1.5, 0.05 * 255, 230.0


def detect_faces(
    forward: ForwardFn,
    scale_range: ScaleRange,
    images: Sequence[ImageData],
    options: RestoreOptions,
    boxes: Sequence[Sequence[Box] | None],
    make_source: ImageSourceFactory = OpenCVImageSource,
    near: Sequence[Box] | None = None,
) -> list[Detections]:
    """Return each image's faces as rows in its own pixels, best score first.

    An image with more pixels than a 4:3 image with the longer side `options.detection_size` is downscaled to that area.
    Further levels have a third of the side each, until a face that fills the image is in the detector's range. Each level
    counts for the faces that it shows at a reliable size. Images of equal size are batched.
    Faint, tiny or tilted candidates, and those that fit no head, are searched again in an enlarged upright crop
    (`refine`). A confidence below `MIN_CONFIDENCE` counts as that.
    `options.angles`: `upright` rotates nothing. `auto` rotates crops; if no plausible face was found, it also rotates all
    levels except the first, and the first at the angles that had a result. `all` rotates every level by 0, 90, 180 and
    270 degrees.
    A dark image without a plausible face is searched once more with stretched contrast. Boxes in `boxes` without a
    detection are searched again at higher resolution.
    `near`: boxes of all images, around which the first level is searched. Without any, it is not searched, and no rotation
    or contrast is tried. None searches it everywhere. Further levels find faces that the first need not show."""
    same_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, image in enumerate(images):
        same_size[image.height, image.width].append(n)
    found: dict[int, Detections] = {}
    for members in same_size.values():
        group = _PyramidBatch([images[n] for n in members], forward, scale_range, options, make_source, near)
        found.update(zip(members, group.detect([boxes[n] for n in members])))
    return [found[n] for n in range(len(images))]


class _PyramidBatch:
    """Images of equal size, searched together."""

    def __init__(
        self,
        images: Sequence[ImageData],
        forward: ForwardFn,
        scale_range: ScaleRange,
        options: RestoreOptions,
        make_source: ImageSourceFactory,
        near: Sequence[Box] | None,
    ) -> None:
        self.size = images[0].size
        self.count = len(images)
        self.forward = forward
        self.scale_range = scale_range
        self.confidence = max(options.confidence, MIN_CONFIDENCE)
        self.angles = options.angles
        self.gains = np.ones(self.count, np.float32)
        sides = pyramid_sizes(self.size, options.detection_size, scale_range)
        self.levels = range(len(sides))
        self.expects_no_face = near is not None and not near
        self.windows = (
            search_windows(near, self.size, sides[0], scale_range) if near is not None and len(sides) > 1 else None
        )
        self.source = make_source(images, sides)

    def detect(self, boxes: Sequence[Sequence[Box] | None]) -> list[Detections]:
        rows = self._search_all_angles(range(self.count))
        without_faces = [n for n, some in enumerate(rows) if not _is_any_plausible(some)]
        dark = self._brighten([] if self.expects_no_face else without_faces)
        for n, more in zip(dark, self._search_all_angles(dark)):
            rows[n] = _suppress_duplicates([rows[n], more])
        for n, image_boxes in enumerate(boxes):
            empty = [box for box in image_boxes or () if not any(matches_box(tuple(row[BOX]), box) for row in rows[n])]
            if empty:
                from_boxes = search_boxes(empty, n, self.size, self._detect_crops, self.confidence, self.angles != UPRIGHT)
                rows[n] = _suppress_duplicates([rows[n], from_boxes])
        return rows

    def _brighten(self, members: Sequence[int]) -> list[int]:
        """Return which of these images are dark, and set their gain so that further searches stretch their contrast."""
        if not members:
            return []
        white = white_points(self.source.pyramid_level(self.levels[-1], members, 0))
        dark = [(n, w) for n, w in zip(members, white) if MIN_WHITE <= w < DARK_WHITE]
        for n, w in dark:
            self.gains[n] = STRETCHED_WHITE / w
        return [n for n, _ in dark]

    def _search_all_angles(self, members: Sequence[int]) -> list[Detections]:
        """Return the faces of these images at the angles in the options."""
        quarters = QUARTER_TURNS if self.angles == ALL else QUARTER_TURNS[:1]
        rows = self._search(members, quarters, self.levels)
        if self.angles not in (ALL, UPRIGHT) and not self.expects_no_face:
            self._search_rotated(members, rows)
        return rows

    def _search_rotated(self, members: Sequence[int], rows: list[Detections]) -> None:
        """Add faces from rotated images where no plausible face was found."""
        places = [k for k, some in enumerate(rows) if not _is_any_plausible(some)]
        without_faces = [members[k] for k in places]
        small = self.levels[1:] if len(self.levels) > 1 else range(1)
        for k, n, more in zip(places, without_faces, self._search(without_faces, QUARTER_TURNS[1:], small)):
            angle = estimate_pose(more[:, LANDMARKS]).roll
            seen_at = sorted({round(a / 90) % 4 for a in angle} - {0})
            if seen_at and 0 not in small:
                more = _suppress_duplicates([more, *self._search([n], seen_at, range(1))])
            rows[k] = _suppress_duplicates([rows[k], more])

    def _search(self, members: Sequence[int], quarters: Sequence[int], levels: Sequence[int]) -> list[Detections]:
        """Return the faces of these images at these rotations and levels."""
        if not members:
            return []
        parts: list[list[Candidates]] = [[] for _ in members]
        passes = (
            self._detect_level(members, level, quarter, level == levels[0]) for level in levels for quarter in quarters
        )
        for detections in prefetch_one(passes):
            for part, some in zip(parts, detections):
                part.append(some)
        found = [merge_levels(Candidates.concatenate(part)) for part in parts]
        rotate = self.angles != UPRIGHT
        refined = refine_candidates(found, members, self.size, self._detect_crops, self.confidence, rotate)
        return [_suppress_duplicates([rows]) for rows in refined]

    def _detect_level(self, members: Sequence[int], level: int, quarter: int, is_first: bool) -> Iterator[Candidates]:
        """Start one pass of the network and return its candidates lazily."""
        batch = amplify(self.source.pyramid_level(level, members, quarter), self.gains[list(members)])
        height, width = batch.shape[1:3]
        whole = self.size if quarter % 2 == 0 else self.size[::-1]
        scale = (whole[0] / width, whole[1] / height)
        is_last = level == self.levels[-1]
        min_size = 0.0 if is_first else self.scale_range.accepted[0]
        detections = self._forward_level(batch, level, quarter, min_size)
        accepted = (level_candidates(rows, scale, self.scale_range, is_first, is_last) for rows in detections)
        return (unrotate90(some, quarter, *self.size) for some in accepted)

    def _forward_level(self, batch: ImageBatch, level: int, quarter: int, min_size: float) -> Iterable[Detections]:
        """Run the network on a level, or on its windows, and return its rows lazily, in the level's pixels."""
        confidence = min(MIN_SCORE, self.confidence)
        if level or self.windows is None:
            return (shift(rows, -BORDER, -BORDER) for rows in self.forward(with_border(batch), confidence, min_size))
        height, width = batch.shape[1:3]
        size = (width, height) if quarter % 2 == 0 else (height, width)
        windows = [rotate_window(window, quarter, size) for window in self.windows]
        parts = [self.forward(with_border(cut_window(batch, window)), confidence, min_size) for window in windows]
        if not parts:
            return iter([np.empty((0, COLUMN_COUNT))] * len(batch))
        return (
            np.concatenate([shift(rows, window.x0 - BORDER, window.y0 - BORDER) for rows, window in zip(each, windows)])
            for each in zip(*parts)
        )

    def _detect_crops(self, wanted: Sequence[tuple[int, Alignment]], min_size: float) -> Iterable[Detections]:
        crops = amplify(self.source.crops(wanted), self.gains[[n for n, _ in wanted]])
        return self.forward(crops, MIN_SCORE, min_size)


def _is_any_plausible(rows: Detections) -> bool:
    return bool(estimate_pose(rows[:, LANDMARKS]).plausible.any())


def _suppress_duplicates(parts: Sequence[Detections]) -> Detections:
    return suppress_nested(nms(np.concatenate(parts)))

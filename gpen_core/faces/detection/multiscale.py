"""Every face of an image once: close up and tiny, upright and turned, and none that is not there."""

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
from .image_source import ImageBatch, ImageSourceFactory, OpenCVImageSource
from .pyramid import Candidates, Detections, ScaleRange, level_candidates, merge_levels, nms, pyramid_sizes, suppress_nested
from .refine import MIN_SCORE, prefetch_one, refine_candidates, search_box
from .rotation import unrotate90

ForwardFn = Callable[[ImageBatch, float], Iterable[Detections]]
"""What is looked at and the least score -> per image the rows found, in its pixels, one per place. They may be computed
when they are asked for."""

UPRIGHT, ALL = "upright", "all"
QUARTER_TURNS = (0, 1, 2, 3)


def detect_faces(
    forward: ForwardFn,
    scale_range: ScaleRange,
    images: Sequence[ImageData],
    options: RestoreOptions,
    boxes: Sequence[Sequence[Box] | None],
    make_source: ImageSourceFactory = OpenCVImageSource,
) -> list[Detections]:
    """Per image its faces as rows in its own pixels, the best score first.

    A longer side above `options.detection_size` is reduced to it by area, and to a third of that again and again until a
    face that fills the image is within what the detector is good at; each level answers for the faces that it shows at a
    size it is right for. Images of equal size go in one pass per level. What is faint, tiny, tilted or fits no head is
    looked at again, larger and upright (`looks`). `options.angles`: `upright` never turns anything; `auto` turns looks,
    and, where nothing plausible was found, all levels but the first, and the first where that found something; `all`
    turns every level by 0, 90, 180 and 270 degrees. Where a box of `boxes` holds no face, it is looked into."""
    same_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, image in enumerate(images):
        same_size[image.height, image.width].append(n)
    found: dict[int, Detections] = {}
    for members in same_size.values():
        group = _PyramidBatch([images[n] for n in members], forward, scale_range, options, make_source)
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
    ) -> None:
        self.size = images[0].size
        self.count = len(images)
        self.forward = forward
        self.scale_range = scale_range
        self.confidence = options.confidence
        self.angles = options.angles
        sides = pyramid_sizes(max(self.size), options.detection_size, scale_range)
        self.levels = range(len(sides))
        self.source = make_source(images, sides)

    def detect(self, boxes: Sequence[Sequence[Box] | None]) -> list[Detections]:
        quarters = QUARTER_TURNS if self.angles == ALL else QUARTER_TURNS[:1]
        rows = self._search(range(self.count), quarters, self.levels)
        if self.angles not in (ALL, UPRIGHT):
            self._search_rotated(rows)
        for n, image_boxes in enumerate(boxes):
            empty = [box for box in image_boxes or () if not any(matches_box(tuple(row[:4]), box) for row in rows[n])]
            if empty:
                from_boxes = search_box(empty, n, self.size, self._detect_crops, self.confidence, self.angles != UPRIGHT)
                rows[n] = _suppress_duplicates([rows[n], from_boxes])
        return rows

    def _search_rotated(self, rows: list[Detections]) -> None:
        """Adds what is found in the turned images where nothing plausible was."""
        without_faces = [n for n, some in enumerate(rows) if not estimate_pose(some[:, 5:]).plausible.any()]
        small = self.levels[1:] if len(self.levels) > 1 else range(1)
        for n, more in zip(without_faces, self._search(without_faces, QUARTER_TURNS[1:], small)):
            angle = estimate_pose(more[:, 5:]).roll
            seen_at = sorted({round(a / 90) % 4 for a in angle} - {0})
            if seen_at and 0 not in small:
                more = _suppress_duplicates([more, *self._search([n], seen_at, range(1))])
            rows[n] = _suppress_duplicates([rows[n], more])

    def _search(self, members: Sequence[int], quarters: Sequence[int], levels: Sequence[int]) -> list[Detections]:
        """The faces of those images, at those angles and on those levels."""
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
        refined = refine_candidates(found, members, self._detect_crops, self.confidence, self.angles != UPRIGHT)
        return [_suppress_duplicates([rows]) for rows in refined]

    def _detect_level(self, members: Sequence[int], level: int, quarter: int, is_first: bool) -> Iterator[Candidates]:
        """What one pass shows. It is started here, and its answer is read when it is asked for."""
        batch = self.source.pyramid_level(level, members, quarter)
        height, width = batch.shape[1:3]
        whole = self.size if quarter % 2 == 0 else self.size[::-1]
        scale = (whole[0] / width, whole[1] / height)
        is_last = level == self.levels[-1]
        detections = self.forward(batch, min(MIN_SCORE, self.confidence))
        accepted = (level_candidates(rows, scale, self.scale_range, is_first, is_last) for rows in detections)
        return (unrotate90(some, quarter, *self.size) for some in accepted)

    def _detect_crops(self, wanted: Sequence[tuple[int, Alignment]]) -> Iterable[Detections]:
        return self.forward(self.source.crops(wanted), MIN_SCORE)


def _suppress_duplicates(parts: Sequence[Detections]) -> Detections:
    return suppress_nested(nms(np.concatenate(parts)))

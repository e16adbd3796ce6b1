"""Every face of a picture once: close up and tiny, upright and turned, and none that is not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from ..options import RestoreOptions
from ..pictures.picture import FloatImage, Picture
from .angles import turned, turned_back
from .face import Box
from .head import poses
from .looks import FAINT, See, look_again, look_into
from .pyramid import Candidates, Reach, Rows, candidates, distinct, level_sides, resized, resolve, without_parts
from .select import inside

UPRIGHT, ALL = "upright", "all"
QUARTERS = (0, 1, 2, 3)


def find(
    see: See,
    reach: Reach,
    pictures: Sequence[Picture],
    options: RestoreOptions,
    boxes: Sequence[Sequence[Box] | None],
) -> list[Rows]:
    """Per picture its faces as rows in its own pixels, the best score first.

    A longer side above `options.detect_size` is reduced to it by area, and to a third of that again and again until a face
    that fills the picture is within what the detector is good at; each level answers for the faces that it shows at a
    size it is right for. Pictures of equal size go in one pass per level. What is faint, tiny, tilted or fits no head is
    looked at again, larger and upright (`looks`). `options.angles`: `upright` never turns anything; `auto` turns looks,
    and, where nothing plausible was found, all levels but the first, and the first where that found something; `all`
    turns every level by 0, 90, 180 and 270 degrees. Where a box of `boxes` holds no face, it is looked into."""
    same_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, picture in enumerate(pictures):
        same_size[picture.height, picture.width].append(n)
    found: dict[int, Rows] = {}
    for members in same_size.values():
        group = _Group([pictures[n] for n in members], see, reach, options)
        found.update(zip(members, group.find([boxes[n] for n in members])))
    return [found[n] for n in range(len(pictures))]


class _Group:
    """Pictures of equal size, searched together."""

    def __init__(self, pictures: Sequence[Picture], see: See, reach: Reach, options: RestoreOptions) -> None:
        self.pictures = pictures
        self.see = see
        self.reach = reach
        self.confidence = options.confidence
        self.angles = options.angles
        longest = max(pictures[0].height, pictures[0].width)
        self.sides = level_sides(longest, options.detect_size, reach)
        whole = np.stack([picture.bgr_255(self.sides[0]) for picture in pictures])
        first = resized(whole, self.sides[0])
        self.levels = [first, *(resized(first, side) for side in self.sides[1:])]

    def find(self, boxes: Sequence[Sequence[Box] | None]) -> list[Rows]:
        everywhere = range(len(self.pictures))
        quarters = QUARTERS if self.angles == ALL else QUARTERS[:1]
        rows = self._search(everywhere, quarters, range(len(self.levels)))
        if self.angles not in (ALL, UPRIGHT):
            self._turn(rows)
        for n, given in enumerate(boxes):
            empty = [box for box in given or () if not any(inside(tuple(row[:4]), box) for row in rows[n])]
            if empty:
                led = look_into(empty, self.pictures[n], self.see, self.confidence, self.angles != UPRIGHT)
                rows[n] = _merged([rows[n], led])
        return rows

    def _turn(self, rows: list[Rows]) -> None:
        """Adds what is found in the turned pictures where nothing plausible was."""
        left = [n for n, some in enumerate(rows) if not poses(some[:, 5:]).plausible.any()]
        small = range(1, len(self.levels)) if len(self.levels) > 1 else range(1)
        for n, more in zip(left, self._search(left, QUARTERS[1:], small)):
            angle = poses(more[:, 5:]).roll
            seen_at = sorted({round(a / 90) % 4 for a in angle} - {0})
            if seen_at and 0 not in small:
                more = _merged([more, *self._search([n], seen_at, range(1))])
            rows[n] = _merged([rows[n], more])

    def _search(self, members: Sequence[int], quarters: Sequence[int], levels: Sequence[int]) -> list[Rows]:
        """The faces of those pictures, at those angles and on those levels."""
        if not members:
            return []
        parts: list[list[Candidates]] = [[] for _ in members]
        for level in levels:
            batch = self.levels[level]
            if len(members) < len(batch):
                batch = batch[list(members)]
            for quarter in quarters:
                for part, seen in zip(parts, self._level(batch, level, quarter, level == levels[0])):
                    part.append(seen)
        found = [resolve(Candidates.join(part)) for part in parts]
        pictures = [self.pictures[n] for n in members]
        looked = look_again(found, pictures, self.see, self.confidence, self.angles != UPRIGHT)
        return [_merged([rows]) for rows in looked]

    def _level(self, batch: FloatImage, level: int, quarter: int, is_first: bool) -> Iterator[Candidates]:
        height, width = batch.shape[1:3]
        scale = (self.pictures[0].width / width, self.pictures[0].height / height)
        turned_scale = scale if quarter % 2 == 0 else scale[::-1]
        size = (self.pictures[0].width, self.pictures[0].height)
        for rows in self.see(turned(batch, quarter) if quarter else batch, min(FAINT, self.confidence)):
            believed = candidates(rows, turned_scale, self.reach, is_first, level == len(self.levels) - 1)
            yield turned_back(believed, quarter, *size)


def _merged(parts: Sequence[Rows]) -> Rows:
    return without_parts(distinct(np.concatenate(parts)))

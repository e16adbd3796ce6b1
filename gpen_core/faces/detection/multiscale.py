"""Every face of a picture once: close up and tiny, upright and turned, and none that is not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ...images.image import Picture
from ...options import RestoreOptions
from ..align import Alignment
from ..face import Box
from ..head_pose import poses
from ..select import inside
from .image_source import Batch, MakeScene, OpenCVScene
from .pyramid import Candidates, Reach, Rows, candidates, distinct, level_sides, resolve, without_parts
from .refine import FAINT, look_again, look_into, one_ahead
from .rotation import turned_back

See = Callable[[Batch, float], Iterable[Rows]]
"""What is looked at and the least score -> per picture the rows found, in its pixels, one per place. They may be computed
when they are asked for."""

UPRIGHT, ALL = "upright", "all"
QUARTERS = (0, 1, 2, 3)


def find(
    see: See,
    reach: Reach,
    pictures: Sequence[Picture],
    options: RestoreOptions,
    boxes: Sequence[Sequence[Box] | None],
    make_scene: MakeScene = OpenCVScene,
) -> list[Rows]:
    """Per picture its faces as rows in its own pixels, the best score first.

    A longer side above `options.detection_size` is reduced to it by area, and to a third of that again and again until a
    face that fills the picture is within what the detector is good at; each level answers for the faces that it shows at a
    size it is right for. Pictures of equal size go in one pass per level. What is faint, tiny, tilted or fits no head is
    looked at again, larger and upright (`looks`). `options.angles`: `upright` never turns anything; `auto` turns looks,
    and, where nothing plausible was found, all levels but the first, and the first where that found something; `all`
    turns every level by 0, 90, 180 and 270 degrees. Where a box of `boxes` holds no face, it is looked into."""
    same_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, picture in enumerate(pictures):
        same_size[picture.height, picture.width].append(n)
    found: dict[int, Rows] = {}
    for members in same_size.values():
        group = _Group([pictures[n] for n in members], see, reach, options, make_scene)
        found.update(zip(members, group.find([boxes[n] for n in members])))
    return [found[n] for n in range(len(pictures))]


class _Group:
    """Pictures of equal size, searched together."""

    def __init__(
        self, pictures: Sequence[Picture], see: See, reach: Reach, options: RestoreOptions, make_scene: MakeScene
    ) -> None:
        self.size = pictures[0].size
        self.count = len(pictures)
        self.see = see
        self.reach = reach
        self.confidence = options.confidence
        self.angles = options.angles
        sides = level_sides(max(self.size), options.detection_size, reach)
        self.levels = range(len(sides))
        self.scene = make_scene(pictures, sides)

    def find(self, boxes: Sequence[Sequence[Box] | None]) -> list[Rows]:
        quarters = QUARTERS if self.angles == ALL else QUARTERS[:1]
        rows = self._search(range(self.count), quarters, self.levels)
        if self.angles not in (ALL, UPRIGHT):
            self._turn(rows)
        for n, given in enumerate(boxes):
            empty = [box for box in given or () if not any(inside(tuple(row[:4]), box) for row in rows[n])]
            if empty:
                led = look_into(empty, n, self.size, self._look, self.confidence, self.angles != UPRIGHT)
                rows[n] = _merged([rows[n], led])
        return rows

    def _turn(self, rows: list[Rows]) -> None:
        """Adds what is found in the turned pictures where nothing plausible was."""
        left = [n for n, some in enumerate(rows) if not poses(some[:, 5:]).plausible.any()]
        small = self.levels[1:] if len(self.levels) > 1 else range(1)
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
        passes = (self._level(members, level, quarter, level == levels[0]) for level in levels for quarter in quarters)
        for seen in one_ahead(passes):
            for part, some in zip(parts, seen):
                part.append(some)
        found = [resolve(Candidates.join(part)) for part in parts]
        looked = look_again(found, members, self._look, self.confidence, self.angles != UPRIGHT)
        return [_merged([rows]) for rows in looked]

    def _level(self, members: Sequence[int], level: int, quarter: int, is_first: bool) -> Iterator[Candidates]:
        """What one pass shows. It is started here, and its answer is read when it is asked for."""
        batch = self.scene.level(level, members, quarter)
        height, width = batch.shape[1:3]
        whole = self.size if quarter % 2 == 0 else self.size[::-1]
        scale = (whole[0] / width, whole[1] / height)
        is_last = level == self.levels[-1]
        seen = self.see(batch, min(FAINT, self.confidence))
        believed = (candidates(rows, scale, self.reach, is_first, is_last) for rows in seen)
        return (turned_back(some, quarter, *self.size) for some in believed)

    def _look(self, wanted: Sequence[tuple[int, Alignment]]) -> Iterable[Rows]:
        return self.see(self.scene.squares(wanted), FAINT)


def _merged(parts: Sequence[Rows]) -> Rows:
    return without_parts(distinct(np.concatenate(parts)))

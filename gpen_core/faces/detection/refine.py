"""Looking again at what may be a face: cut out, turned upright and brought to the size that the detector is best at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..align import Alignment, invert
from ..face import Box
from ..head_pose import LARGEST_RESIDUAL, PLAUSIBLE_RESIDUAL, UPRIGHT_ROLL, Poses, poses
from .pyramid import Candidates, Rows, overlap, shorter_sides

LookAt = Callable[[Sequence[tuple[int, Alignment]]], Iterable[Rows]]
"""Squares of pictures that are known by their numbers -> per square the rows found in it, in its pixels, `FAINT` at least.
They may be computed when they are asked for."""

Pass = TypeVar("Pass")

LOOK, FACE = 160, 96  # px: side of what is looked at, and of the face in it
BOX_LOOK, BOX_MARGIN = 224, 1.5  # px; a box that is given is cut out so many times as wide
FAINT = 0.1
"""Least score of what is looked at again: 98 % of faces of 28 px have it, 90 % have 0.9."""
FAINTEST = 100  # of those below the confidence asked for, in a picture: the likeliest
SURE = 0.1  # of the doubt that the confidence leaves may remain with a faint one: real ones have 0.99 when looked at again
BOX_CONFIDENCE = 0.5  # inside a box that is given, where a face is to be expected
CERTAIN_SCORE, CERTAIN_RESIDUAL = 0.99, 0.2  # less, and the other directions are looked at, too
TILTED = 15.0  # degrees: landmarks seen at a roll of 15 are 2 % of the face's width off, at 30 it is 4 %
AT_ONCE = 16  # looks
ROUNDS = 3
DIRECTIONS = (90.0, 180.0, 270.0)


@dataclass(frozen=True, eq=False)
class _Look:
    """One look: a square around `centre`, upright if a head there is turned by `angle` degrees clockwise."""

    picture: int
    centre: NDArray[np.float64]
    side: float
    """Of the square, in pixels of the picture."""
    angle: float
    pixels: int = LOOK

    def alignment(self) -> Alignment:
        scale, turn = self.pixels / self.side, np.radians(-self.angle)
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = (self.pixels - 1) / 2
        matrix = np.column_stack((linear, middle - linear @ self.centre))
        return Alignment(matrix, invert(matrix), self.pixels)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one look showed: the row in pixels of the picture, and how well it is to be believed."""

    row: NDArray[np.float64]
    angle: float
    """Of the look, degrees."""
    residual: float
    roll: float
    """Degrees, as it stood in the look."""

    @property
    def score(self) -> float:
        return float(self.row[4])

    @property
    def is_plausible(self) -> bool:
        return self.residual <= PLAUSIBLE_RESIDUAL and abs(self.roll) <= UPRIGHT_ROLL

    @property
    def is_certain(self) -> bool:
        """Of 3,087 looks at the wrong angle 0.4 % seem so, of those at the right one 96 %."""
        return self.score > CERTAIN_SCORE and self.residual <= CERTAIN_RESIDUAL and abs(self.roll) <= TILTED

    @property
    def quality(self) -> tuple[bool, float]:
        """The better fit to a head before the better score: a head seen upside down scores 0.99 as well, and fits less.
        Of 1,424 faces at all angles, 98 % are right by this order."""
        return self.is_plausible, -(self.residual + abs(self.roll) / 360 + 30 * (1 - self.score))


class _Doubt:
    """A candidate that is looked at again."""

    def __init__(self, picture: int, row: NDArray[np.float64], angle: float, may_turn: bool, is_odd: bool) -> None:
        """`is_odd`: its landmarks fit no head, or one that is far from upright. Then every direction is looked at."""
        self.picture = picture
        self.row = row
        self.may_turn = may_turn
        self.is_odd = is_odd
        self.seen: list[_Seen] = []
        self.next = [angle]

    @property
    def best(self) -> _Seen | None:
        return max(self.seen, key=lambda one: one.quality, default=None)

    def looks(self) -> list[_Look]:
        """Those of the next round."""
        centre = (self.row[:2] + self.row[2:4]) / 2
        side = float(shorter_sides(self.row[None])[0]) * LOOK / FACE
        angles, self.next = self.next, []
        return [_Look(self.picture, centre, side, angle) for angle in angles]

    def decide(self, showed: Sequence[_Seen | None], confidence: float) -> None:
        """Whether, and at which angles, to look once more."""
        is_first = not self.seen
        self.seen += [one for one in showed if one is not None]
        best = self.best
        if best is None or not self.may_turn:
            return
        if is_first and (self.is_odd or not best.is_certain):
            self.next = [best.angle + direction for direction in DIRECTIONS]
        elif best.is_plausible and best.score > confidence and abs(best.roll) > TILTED:
            self.next = [best.angle + best.roll]


def look_again(
    found: Sequence[Candidates], pictures: Sequence[int], look_at: LookAt, confidence: float, may_turn: bool
) -> list[Rows]:
    """Per picture the rows of the candidates that are faces, `confidence` at least.

    Looked at again are candidates below `confidence`, of another size than landmarks are exact for, tilted, or whose
    landmarks fit no head; the others stay as they are. Those below `confidence` have to be all the surer then. `may_turn`
    allows looks that are turned."""
    found = [_likeliest(candidates, confidence) for candidates in found]
    doubts: list[list[_Doubt | None]] = []
    for picture, candidates in zip(pictures, found):
        pose = poses(candidates.rows[:, 5:])
        doubtful = _doubtful(candidates, pose, confidence, may_turn)
        fits = pose.residual <= PLAUSIBLE_RESIDUAL
        # At which a head there would be upright: as its landmarks say, if they are a head's; else as it was seen.
        angles = np.where(fits, pose.roll, candidates.angle) if may_turn else np.zeros(len(candidates))
        odd = ~fits | (np.abs(pose.roll) > UPRIGHT_ROLL)
        doubts.append(
            [
                _Doubt(picture, candidates.rows[n], float(angles[n]), may_turn, bool(odd[n])) if doubtful[n] else None
                for n in range(len(candidates))
            ]
        )
    _settle([doubt for some in doubts for doubt in some if doubt is not None], look_at, confidence)
    return [_rows(candidates, some, confidence) for candidates, some in zip(found, doubts)]


def look_into(
    boxes: Sequence[Box], picture: int, size: tuple[int, int], look_at: LookAt, confidence: float, may_turn: bool
) -> Rows:
    """The faces inside these boxes of a picture of that width and height, at most one in each: where a face is known to be,
    less has to be seen of it. Boxes without area, or outside the picture, hold none."""
    confidence = min(confidence, BOX_CONFIDENCE)
    jobs = [box for box in boxes if _reaches_into(box, size)]
    angles = (0.0, *DIRECTIONS) if may_turn else (0.0,)
    looks = [_into(box, picture, angle) for box in jobs for angle in angles]
    doubts = []
    for n, box in enumerate(jobs):
        some = _showed(looks[n * len(angles) : (n + 1) * len(angles)], look_at, partial(_is_inside, box))
        best = max((one for one in some if one is not None), key=lambda one: one.quality, default=None)
        if best is not None and best.residual <= LARGEST_RESIDUAL:
            doubts.append(_Doubt(picture, best.row, best.angle + (best.roll if may_turn else 0), may_turn, False))
    _settle(doubts, look_at, confidence)
    rows = [doubt.best.row for doubt in doubts if doubt.best is not None and doubt.best.score > confidence]
    return np.array(rows).reshape(-1, 15)


def _reaches_into(box: Box, size: tuple[int, int]) -> bool:
    width, height = min(box[2], size[0]) - max(box[0], 0), min(box[3], size[1]) - max(box[1], 0)
    return min(width, height) >= 1


def _into(box: Box, picture: int, angle: float) -> _Look:
    corners = np.array(box).reshape(2, 2)
    return _Look(picture, corners.mean(0), float((corners[1] - corners[0]).max()) * BOX_MARGIN, angle, BOX_LOOK)


def _is_inside(box: Box, row: NDArray[np.float64]) -> bool:
    x, y = (row[:2] + row[2:4]) / 2
    whole = np.array([*box, *[0.0] * 11])
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3] and overlap(row, whole[None])[1][0] > 0.5)


def _doubtful(candidates: Candidates, pose: Poses, confidence: float, may_turn: bool) -> NDArray[np.bool_]:
    doubtful = (candidates.rows[:, 4] <= confidence) | ~candidates.is_exact
    if may_turn:
        rolled = np.abs((pose.roll - candidates.angle + 180) % 360 - 180)
        uncertain = (pose.residual > CERTAIN_RESIDUAL) | (candidates.rows[:, 4] <= CERTAIN_SCORE)
        doubtful |= uncertain | (rolled > TILTED)
    return np.asarray(doubtful)


def _likeliest(candidates: Candidates, confidence: float) -> Candidates:
    score = candidates.rows[:, 4]
    faint = np.flatnonzero(score <= confidence)
    dropped = faint[np.argsort(-score[faint], kind="stable")[FAINTEST:]]
    return candidates.take(np.setdiff1d(np.arange(len(candidates)), dropped))


def _rows(candidates: Candidates, doubts: Sequence[_Doubt | None], confidence: float) -> Rows:
    rows = []
    for row, doubt in zip(candidates.rows, doubts):
        if doubt is None:
            rows.append(row)
        elif doubt.best is not None:
            least = confidence if row[4] > confidence else 1 - SURE * (1 - confidence)
            if doubt.best.score > least:
                rows.append(doubt.best.row)
    return np.array(rows).reshape(-1, 15)


def _settle(doubts: Sequence[_Doubt], look_at: LookAt, confidence: float) -> None:
    open_ones = list(doubts)
    for _ in range(ROUNDS):
        each = [doubt.looks() for doubt in open_ones]
        showed = iter(_showed([look for looks in each for look in looks], look_at, None))
        for doubt, looks in zip(open_ones, each):
            doubt.decide([next(showed) for _ in looks], confidence)
        open_ones = [doubt for doubt in open_ones if doubt.next]


def _showed(
    looks: Sequence[_Look], look_at: LookAt, accepts: Callable[[NDArray[np.float64]], bool] | None
) -> list[_Seen | None]:
    """What each look shows: the best row that `accepts` takes, else the best whose middle is near the look's."""
    out: list[_Seen | None] = []
    alignments = [look.alignment() for look in looks]
    wanted = [(look.picture, alignment) for look, alignment in zip(looks, alignments)]
    passes = one_ahead(look_at(wanted[start : start + AT_ONCE]) for start in range(0, len(wanted), AT_ONCE))
    for look, alignment, rows in zip(looks, alignments, chain.from_iterable(passes)):
        near = _near_middle(rows, look.pixels) if accepts is None else np.ones(len(rows), bool)
        pose = poses(rows[:, 5:])
        seen = [
            _Seen(_mapped(row, alignment.inverse), look.angle, float(pose.residual[n]), float(pose.roll[n]))
            for n, row in enumerate(rows)
            if near[n]
        ]
        taken = [one for one in seen if accepts is None or accepts(one.row)]
        out.append(max(taken, key=lambda one: one.quality, default=None))
    return out


def one_ahead(passes: Iterable[Pass]) -> Iterator[Pass]:
    """Each of them when the next has been started: a GPU works on that while the answer of this one is read. Not all at
    once, since the answers take memory."""
    started = iter(passes)
    for now in started:
        for following in started:
            yield now
            now = following
        yield now


def _near_middle(rows: Rows, pixels: int) -> NDArray[np.bool_]:
    """[N]: the face that was expected there, not its neighbour."""
    off = np.abs((rows[:, :2] + rows[:, 2:4]) / 2 - (pixels - 1) / 2).max(axis=1)
    size = shorter_sides(rows) / FACE
    return np.asarray((off < FACE / 2) & (size > 0.5) & (size < 1.6))


def _mapped(row: NDArray[np.float64], inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row of a look in pixels of the picture. The box is turned as the ellipse in it is."""
    linear, shift = inverse[:, :2], inverse[:, 2]
    centre = linear @ ((row[:2] + row[2:4]) / 2) + shift
    half = np.hypot(*(linear * ((row[2:4] - row[:2]) / 2)).T)
    points = row[5:].reshape(5, 2) @ linear.T + shift
    return np.array([*(centre - half), *(centre + half), row[4], *points.ravel()])

"""Who is who: faces followed from frame to frame, by what is detected and by how the picture itself moves."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faces.align import Matrix, similarity, template
from ..faces.face import Box, Face, Landmarks
from ..faces.select import in_order
from ..images.image import FloatImage, Picture
from .face_motion import STILL, Grey, Motion, correlation, follow, grey, moved, patch
from .landmark_smoothing import smoothed
from .track import Track

GAP = 0.5  # seconds without a detection that are filled
NEAR = 0.35  # of the face's size: the landmarks' distance from where the picture says that they have gone
FAR = 1.5  # of the face's size: from where they would be at the speed they had
RATIO = 1.6  # of two sizes of one face in frames that follow each other
STRAIGHT_ON = 0.5  # of the face's size: nearer than that it is the same one, though the picture tells no motion
LOOK = 32  # px: side of the patch by which a face is known again
SAME_LOOK = 0.6  # correlation
LOOK_COUNTS = 0.5  # beside the distance, in sizes of the face
ROW = 15  # numbers of a face in one frame
NOT_SEEN, NO_MOTION = (math.nan,) * ROW, (math.nan,) * 6
LEARNING = 0.2  # share of each new frame in what a face looks like
GONE = 2.0  # seconds in which a face that was lost is taken for the same one, near where it was
AGAIN = 1.0  # of the face's size: how near


@dataclass(eq=False)
class _Trail:
    """A track that is being made."""

    first: int
    begins_softly: bool
    began: Face | None = None
    """As it was detected in its first frame."""
    best: float = 0.0
    """The highest score."""
    rows: array[float] = field(default_factory=lambda: array("d"))
    """By frame: box, score and landmarks, nan where it was not detected. Numbers in a row, since a film is long."""
    moves: array[float] = field(default_factory=lambda: array("d"))
    """By pair of frames: the motion's six numbers, nan where the picture does not tell it."""
    place: Landmarks = field(default_factory=lambda: np.zeros((5, 2)))
    """Where the landmarks are in the last frame, detected or carried there."""
    box: Box = (0.0, 0.0, 0.0, 0.0)
    speed: Matrix = field(default_factory=STILL.copy)
    look: FloatImage | None = None
    missed: int = 0
    ends_softly: bool = True
    perhaps: list[_Trail] = field(default_factory=list)
    """Who was lost from sight near where it began, the last first."""

    @property
    def size(self) -> float:
        return _size(self.box)

    @property
    def last(self) -> int:
        """Of the frames with a detection."""
        return self.first + len(self.rows) // ROW - 1 - self.missed

    def see(self, face: Face, motion: Motion | None, look: FloatImage | None) -> None:
        """One frame more, in which it was detected."""
        if self.began is not None:
            self.moves.extend(NO_MOTION if motion is None else motion.matrix.ravel())
            self.speed = similarity(self.place, face.landmarks) if motion is None else motion.matrix
        self.began, self.best = self.began or face, max(self.best, face.score)
        self.rows.extend((*face.box, face.score, *face.landmarks.ravel()))
        self.place, self.box, self.missed = face.landmarks, face.box, 0
        if look is not None:
            self.look = look if self.look is None else (1 - LEARNING) * self.look + LEARNING * look

    def carry(self, motion: Motion) -> None:
        """One frame more, into which only the picture carries it."""
        self.moves.extend(motion.matrix.ravel())
        self.rows.extend(NOT_SEEN)
        self.place, self.box, self.speed = (
            moved(motion.matrix, self.place),
            _moved_box(motion.matrix, self.box),
            motion.matrix,
        )
        self.missed += 1

    def finish(self, number: int, person: int, rate: float) -> Track:
        count = len(self.rows) // ROW - self.missed
        rows = np.array(self.rows).reshape(-1, ROW)[:count]
        moves = np.array(self.moves).reshape(-1, 2, 3)[: count - 1]
        boxes, scores, raw = rows[:, :4], rows[:, 4], rows[:, 5:].reshape(-1, 5, 2)
        motions = [move if np.isfinite(move).all() else None for move in moves]
        landmarks, smooth_boxes = smoothed(raw, boxes, motions, rate)
        return Track(number, self.first, landmarks, smooth_boxes, scores, raw, self.begins_softly, self.ends_softly, person)


class Tracker:
    """Takes a film's frames in order, each with the faces detected in it, and makes tracks of them.

    A face is looked for where the picture has moved to (`face_motion.follow`), at the first try from where its speed has
    carried it, then from where a face was detected that it may be. Where nothing is detected for up to half a second,
    the picture carries it, as long as what is there moves as one and looks like the face; else the track ends. It keeps one
    frame in grey, and a few hundred bytes for each face and frame."""

    def __init__(self, rate: float, confidence: float = 0.0) -> None:
        """`rate`: frames a second. A track of which no face has a score of more than `confidence` is none: fainter ones
        only fill in what surer ones began or go on to."""
        self.rate = rate
        self.confidence = confidence
        self._before: Grey | None = None
        self._next: int | None = None
        self._active: list[_Trail] = []
        self._ended: list[_Trail] = []

    def add(self, number: int, picture: Picture, faces: Sequence[Face], is_cut: bool) -> None:
        """The next frame. `is_cut`: it begins a shot, and no track goes on into it. Raises `ValueError` where a frame was
        left out: motion is measured between frames that follow each other."""
        if self._next is not None and number != self._next:
            raise ValueError(f"frame {number} came after frame {self._next - 1}: every frame is needed, in order")
        now = grey(picture)
        faces = [face for face in faces if np.isfinite(face.landmarks).all() and face.area > 0]
        if is_cut or (self._before is not None and self._before.shape != now.shape):
            self._end(self._active, softly=False)
            is_cut = True
        looks = [_look(now, face.landmarks) for face in faces]
        left = self._go_on(now, faces, looks)
        begins_softly = self._next is not None and not is_cut
        for n in left:
            trail = _Trail(number, begins_softly)
            trail.see(faces[n], None, looks[n])
            trail.perhaps = [] if is_cut else self._lost(faces[n], number)
            self._active.append(trail)
        self._before, self._next = now, number + 1

    def finish(self) -> tuple[Track, ...]:
        """All tracks, numbered by first appearance, then in reading order. Nothing may be added after that."""
        self._end(self._active, softly=False)
        people = _people(_numbered(self._ended))
        return tuple(trail.finish(n, person, self.rate) for n, (trail, person) in enumerate(people.items()))

    def _go_on(self, now: Grey, faces: Sequence[Face], looks: Sequence[FloatImage | None]) -> list[int]:
        """Takes the tracks on into this frame; the faces that belong to none are left."""
        before, trails = self._before, list(self._active)
        if before is None or not trails:
            return list(range(len(faces)))
        motions = {trail: _by_speed(before, now, trail) for trail in trails}
        sure = [trail for trail in trails if motions[trail] is not None]
        places = [moved(motions[trail].matrix, trail.place) for trail in sure]  # type: ignore[union-attr]
        pairs = {sure[i]: n for i, n in _paired(sure, places, faces, looks, NEAR)}
        left = [n for n in range(len(faces)) if n not in pairs.values()]
        lost = [trail for trail in trails if trail not in pairs]
        ahead = [moved(trail.speed, trail.place) for trail in lost]
        for i, k in _paired(lost, ahead, [faces[n] for n in left], [looks[n] for n in left], FAR):
            n, trail = left[k], lost[i]
            motion = follow(before, now, trail.box, similarity(trail.place, faces[n].landmarks))
            off = _distance(ahead[i], trail.size, faces[n])
            if motion is not None and _distance(moved(motion.matrix, trail.place), trail.size, faces[n]) < NEAR:
                pairs[trail], motions[trail] = n, motion
            elif off < STRAIGHT_ON and not trail.missed:
                pairs[trail], motions[trail] = n, None
        for trail in trails:
            if trail in pairs:
                trail.see(faces[pairs[trail]], motions[trail], looks[pairs[trail]])
            else:
                self._miss(trail, motions[trail], now)
        return [n for n in range(len(faces)) if n not in pairs.values()]

    def _miss(self, trail: _Trail, motion: Motion | None, now: Grey) -> None:
        if motion is None or trail.missed + 1 > GAP * self.rate or not _is_still_there(trail, motion, now):
            self._end([trail], softly=True)
        else:
            trail.carry(motion)

    def _end(self, trails: Sequence[_Trail], softly: bool) -> None:
        for trail in list(trails):
            trail.ends_softly = softly or trail.missed > 0
            self._active.remove(trail)
            if trail.best > self.confidence:
                self._ended.append(trail)

    def _lost(self, face: Face, number: int) -> list[_Trail]:
        recent = [trail for trail in self._ended if trail.ends_softly and number - trail.last <= GONE * self.rate]
        return [trail for trail in reversed(recent) if _distance(trail.place, trail.size, face) < AGAIN]


def _numbered(trails: Sequence[_Trail]) -> list[_Trail]:
    """By first frame, then in reading order."""
    by_first: dict[int, dict[int, _Trail]] = {}
    for trail in trails:
        by_first.setdefault(trail.first, {})[id(trail.began)] = trail
    out = []
    for first in sorted(by_first):
        faces = [trail.began for trail in by_first[first].values()]
        out += [by_first[first][id(face)] for face in in_order([f for f in faces if f is not None], "reading")]
    return out


def _people(trails: Sequence[_Trail]) -> dict[_Trail, int]:
    """By whom each was first. Asked at the end: one who is seen again is half hidden still."""
    people: dict[_Trail, int] = {}
    taken: set[_Trail] = set()
    for n, trail in enumerate(trails):
        same = [other for other in trail.perhaps if other not in taken and _alike(other.look, trail.look) >= SAME_LOOK]
        people[trail] = people[same[0]] if same else n
        taken.update(same[:1])
    return people


def _by_speed(before: Grey, now: Grey, trail: _Trail) -> Motion | None:
    """The face's motion, looked for where it would be at the speed it had, then where it was."""
    motion = follow(before, now, trail.box, trail.speed)
    if motion is None and not np.array_equal(trail.speed, STILL):
        motion = follow(before, now, trail.box)
    return motion


def _paired(
    trails: Sequence[_Trail],
    places: Sequence[NDArray[Any]],
    faces: Sequence[Face],
    looks: Sequence[FloatImage | None],
    reach: float,
) -> list[tuple[int, int]]:
    """Which trail is which face, each at most once, at the least distance and unlikeness altogether."""
    from scipy.optimize import linear_sum_assignment

    if not trails or not faces:
        return []
    never = 1e3
    cost = np.full((len(trails), len(faces)), never)
    for i, (trail, place) in enumerate(zip(trails, places)):
        for n, (face, look) in enumerate(zip(faces, looks)):
            distance, ratio = _distance(place, trail.size, face), _size(face.box) / trail.size
            if distance < reach and 1 / RATIO < ratio < RATIO:
                cost[i, n] = distance + abs(np.log(ratio)) + LOOK_COUNTS * (1 - _alike(trail.look, look))
    return [(int(i), int(n)) for i, n in zip(*linear_sum_assignment(cost)) if cost[i, n] < never]


def _distance(place: NDArray[Any], size: float, face: Face) -> float:
    """Mean distance of the landmarks in sizes of the face."""
    return float(np.hypot(*(place - face.landmarks).T).mean()) / size


def _is_still_there(trail: _Trail, motion: Motion, now: Grey) -> bool:
    return _alike(trail.look, _look(now, moved(motion.matrix, trail.place))) >= SAME_LOOK


def _look(image: Grey, landmarks: Landmarks) -> FloatImage | None:
    """The face in a tiny square; None outside of the picture, or where the landmarks lie in one point."""
    if np.ptp(landmarks, axis=0).max() < 1:
        return None
    return patch(image, similarity(landmarks, template(LOOK)), LOOK)


def _alike(a: FloatImage | None, b: FloatImage | None) -> float:
    return 0.0 if a is None or b is None else correlation(a, b)


def _size(box: Box) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def _moved_box(matrix: Matrix, box: Box) -> Box:
    """The box's middle moved and its sides scaled; it does not turn."""
    x, y = moved(matrix, np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]))
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0])) / 2
    width, height = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
    return float(x - width), float(y - height), float(x + width), float(y + height)

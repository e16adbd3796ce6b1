"""Tracks faces from frame to frame, by detections and by the motion of the image."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faces.align import Matrix, fit_similarity
from ..faces.face import Box, Face, Landmarks
from ..faces.select import sort_faces
from ..images.image import ImageData
from .appearance import Appearance, describe, similarity
from .face_motion import IDENTITY, GrayImage, Motion, to_gray, track_motion, transform_points
from .landmark_smoothing import smooth_landmarks
from .track import Track

MAX_GAP = 0.5  # seconds without a detection that are filled in
MATCH_DISTANCE = 0.35  # of the face's size, between detected landmarks and those moved by the image's motion
SEARCH_DISTANCE = 1.5  # of the face's size, between detected landmarks and those moved by the previous velocity
MAX_SIZE_RATIO = 1.6  # of a face in consecutive frames
VELOCITY_DISTANCE = 0.5  # of the face's size; within it, a detection matches even without a motion from the image
MIN_APPEARANCE = 0.6  # similarity of a face with the same one some frames before
MIN_CONTINUITY = 0.75  # similarity in consecutive frames of a face whose motion is not known
MIN_MOVED_CONTINUITY = 0.6  # the same if the image's motion leads from one to the other
MIN_SWAP_CONTINUITY = 0.75  # similarity of a face with one that was elsewhere in the previous frame
APPEARANCE_WEIGHT = 0.5  # relative to the distance in sizes of the face
ROW_SIZE = 15  # numbers per face and frame
MOVE_SIZE = 6  # numbers per pair of frames
NO_DETECTION, NO_MOTION = (math.nan,) * ROW_SIZE, (math.nan,) * MOVE_SIZE
APPEARANCE_UPDATE = 0.2  # share of each new frame in the appearance
REIDENTIFY_SECONDS = 2.0  # within this time, a new face can be the same person as a lost one nearby
REIDENTIFY_DISTANCE = 1.0  # of the face's size


@dataclass(eq=False)
class _Trail:
    """An unfinished track."""

    first: int
    fade_in: bool
    first_face: Face | None = None
    """The detection in its first frame."""
    best_score: float = 0.0
    """The highest score."""
    rows: array[float] = field(default_factory=lambda: array("d"))
    """For each frame: box, score and landmarks, nan without a detection. A compact array, because videos are long."""
    moves: array[float] = field(default_factory=lambda: array("d"))
    """For each pair of frames: the six numbers of the motion, nan if the image does not give it."""
    landmarks: Landmarks = field(default_factory=lambda: np.zeros((5, 2)))
    """The landmarks in the last frame, detected or predicted."""
    box: Box = (0.0, 0.0, 0.0, 0.0)
    velocity: Matrix = field(default_factory=IDENTITY.copy)
    appearance: Appearance | None = None
    """The mean appearance."""
    last_appearance: Appearance | None = None
    """The appearance in the last frame with a detection."""
    missed: int = 0
    fade_out: bool = True
    possible_predecessors: list[_Trail] = field(default_factory=list)
    """Tracks that ended shortly before near its beginning, the latest first."""

    @property
    def size(self) -> float:
        return _box_size(self.box)

    @property
    def last(self) -> int:
        """The number of the last frame with a detection."""
        return self.first + len(self.rows) // ROW_SIZE - 1 - self.missed

    def update(self, face: Face, motion: Motion | None, appearance: Appearance | None) -> None:
        """Add a frame with a detection."""
        if self.first_face is not None:
            self.moves.extend(NO_MOTION if motion is None else motion.matrix.ravel())
            self.velocity = fit_similarity(self.landmarks, face.landmarks) if motion is None else motion.matrix
        self.first_face, self.best_score = self.first_face or face, max(self.best_score, face.score)
        self.rows.extend((*face.box, face.score, *face.landmarks.ravel()))
        self.landmarks, self.box, self.missed = face.landmarks, face.box, 0
        if appearance is not None:
            self.last_appearance = appearance
            self.appearance = (
                appearance
                if self.appearance is None
                else (1 - APPEARANCE_UPDATE) * self.appearance + APPEARANCE_UPDATE * appearance
            )

    def similarity(self, appearance: Appearance | None) -> float:
        """Return how much a face looks like this one did last, or does on average."""
        return max(similarity(self.last_appearance, appearance), similarity(self.appearance, appearance))

    def looks_like(self, appearance: Appearance | None, minimum: float) -> bool:
        """Whether the similarity is at least `minimum`. A face without an appearance may be anyone's."""
        return appearance is None or self.appearance is None or self.similarity(appearance) >= minimum

    def split(self, number: int) -> _Trail | None:
        """End this track before frame `number`, where a shot begins. Return the rest, if a detection is in it."""
        rows = self.table()
        detected = self.first + np.flatnonzero(np.isfinite(rows[:, 4]))
        before, after = detected[detected < number], detected[detected >= number]
        rest = None
        if len(after):
            first = int(after[0])
            row = rows[first - self.first]
            face = Face((*row[:4],), float(row[4]), row[5:].reshape(5, 2))
            start = first - self.first
            rest = replace(
                self,
                first=first,
                fade_in=first > number,
                first_face=face,
                best_score=float(np.nanmax(rows[start:, 4])),
                rows=self.rows[start * ROW_SIZE :],
                moves=self.moves[start * MOVE_SIZE :],
                possible_predecessors=[],
            )
        count = number - self.first
        self.rows, self.moves = self.rows[: count * ROW_SIZE], self.moves[: (count - 1) * MOVE_SIZE]
        self.missed = number - 1 - int(before[-1])
        self.fade_out = self.missed > 0
        self.best_score = float(np.nanmax(rows[:count, 4]))
        return rest

    def table(self) -> NDArray[np.float64]:
        """[n, ROW_SIZE]: the rows."""
        return np.array(self.rows).reshape(-1, ROW_SIZE)

    def predict(self, motion: Motion) -> None:
        """Add a frame without a detection, with the place predicted by the image's motion."""
        self.moves.extend(motion.matrix.ravel())
        self.rows.extend(NO_DETECTION)
        self.landmarks, self.box, self.velocity = (
            transform_points(motion.matrix, self.landmarks),
            _transform_box(motion.matrix, self.box),
            motion.matrix,
        )
        self.missed += 1

    def to_track(self, number: int, person: int, rate: float) -> Track:
        count = len(self.rows) // ROW_SIZE - self.missed
        rows = self.table()[:count]
        moves = np.array(self.moves).reshape(-1, 2, 3)[: count - 1]
        boxes, scores, raw = rows[:, :4], rows[:, 4], rows[:, 5:].reshape(-1, 5, 2)
        motions = [move if np.isfinite(move).all() else None for move in moves]
        landmarks, smooth_boxes = smooth_landmarks(raw, boxes, motions, rate)
        return Track(number, self.first, landmarks, smooth_boxes, scores, raw, self.fade_in, self.fade_out, person)


class Tracker:
    """Builds tracks from a video's frames in order, each with its detected faces.

    A face is searched where the image's motion predicts it (`face_motion.track_motion`). The search starts from its previous
    velocity, then from possible detections. Without a detection for up to half a second, the image's motion moves the face,
    as long as the region moves as one and looks like the face. Otherwise, the track ends. The tracker keeps one gray frame,
    and a few hundred bytes per face and frame."""

    def __init__(self, rate: float, confidence: float = 0.0) -> None:
        """`rate`: frames per second. A track is dropped unless one of its scores is above `confidence`."""
        self.rate = rate
        self.confidence = confidence
        self._previous_frame: GrayImage | None = None
        self._next_number: int | None = None
        self._active: list[_Trail] = []
        self._ended: list[_Trail] = []

    def add(self, number: int, image: ImageData, faces: Sequence[Face], is_cut: bool) -> bool:
        """Add the next frame. `is_cut`: it begins a shot, so all tracks end before it.

        Returns whether it begins a shot, which is also true if people changed sides from one frame to the next.
        Raises `ValueError` if a frame is missing, because motion is measured between consecutive frames."""
        if self._next_number is not None and number != self._next_number:
            raise ValueError(f"Frame {number} was added after frame {self._next_number - 1}. Add all frames in order.")
        frame = to_gray(image)
        faces = [face for face in faces if np.isfinite(face.landmarks).all() and face.area > 0]
        appearances = [describe(frame, face.landmarks) for face in faces]
        is_other_size = self._previous_frame is not None and self._previous_frame.shape != frame.shape
        if is_cut or is_other_size or _have_changed_sides(self._active, faces, appearances):
            self._end_trails(self._active, fade_out=False)
            is_cut = True
        unmatched = self._associate(frame, faces, appearances)
        fade_in = self._next_number is not None and not is_cut
        for n in unmatched:
            trail = _Trail(number, fade_in)
            trail.update(faces[n], None, appearances[n])
            trail.possible_predecessors = [] if is_cut else self._recently_lost(faces[n], number)
            self._active.append(trail)
        self._previous_frame, self._next_number = frame, number + 1
        return is_cut

    def split(self, number: int) -> None:
        """End all tracks before frame `number`, which is already added: it is now known to begin a shot."""
        for trails in (self._active, self._ended):
            across = [trail for trail in trails if trail.first < number <= trail.last + trail.missed]
            rests = [trail.split(number) for trail in across]
            trails += [rest for rest in rests if rest is not None]
            if trails is self._active:
                self._active = [trail for trail in trails if trail not in across]
                self._ended += across
        self._ended = [trail for trail in self._ended if trail.best_score > self.confidence]
        for trail in (*self._active, *self._ended):
            if trail.first >= number:
                trail.possible_predecessors = [one for one in trail.possible_predecessors if one.first >= number]

    def finish(self) -> tuple[Track, ...]:
        """Return all tracks, numbered by first appearance, then in reading order. Add no frames after that."""
        self._end_trails(self._active, fade_out=False)
        people = _assign_persons(_sort_trails(self._ended))
        return tuple(trail.to_track(n, person, self.rate) for n, (trail, person) in enumerate(people.items()))

    def _associate(self, frame: GrayImage, faces: Sequence[Face], appearances: Sequence[Appearance | None]) -> list[int]:
        """Continue the tracks in this frame, and return the indices of the faces that belong to none."""
        previous_frame, trails = self._previous_frame, list(self._active)
        if previous_frame is None or not trails:
            return list(range(len(faces)))
        motions = {trail: _track_with_velocity(previous_frame, frame, trail) for trail in trails}
        sure = [trail for trail in trails if motions[trail] is not None]
        places = [transform_points(motions[trail].matrix, trail.landmarks) for trail in sure]  # type: ignore[union-attr]
        pairs = {sure[i]: n for i, n in _match_faces(sure, places, faces, appearances, MATCH_DISTANCE)}
        unmatched = [n for n in range(len(faces)) if n not in pairs.values()]
        lost = [trail for trail in trails if trail not in pairs]
        predicted = [transform_points(trail.velocity, trail.landmarks) for trail in lost]
        for i, k in _match_faces(
            lost, predicted, [faces[n] for n in unmatched], [appearances[n] for n in unmatched], SEARCH_DISTANCE
        ):
            n, trail = unmatched[k], lost[i]
            motion = track_motion(previous_frame, frame, trail.box, fit_similarity(trail.landmarks, faces[n].landmarks))
            off = _distance(predicted[i], trail.size, faces[n])
            if (
                motion is not None
                and _distance(transform_points(motion.matrix, trail.landmarks), trail.size, faces[n]) < MATCH_DISTANCE
            ):
                pairs[trail], motions[trail] = n, motion
            elif off < VELOCITY_DISTANCE and not trail.missed and trail.looks_like(appearances[n], MIN_CONTINUITY):
                pairs[trail], motions[trail] = n, None
        for trail in trails:
            if trail in pairs:
                trail.update(faces[pairs[trail]], motions[trail], appearances[pairs[trail]])
            else:
                self._handle_missed(trail, motions[trail], frame)
        return [n for n in range(len(faces)) if n not in pairs.values()]

    def _handle_missed(self, trail: _Trail, motion: Motion | None, now: GrayImage) -> None:
        if motion is None or trail.missed + 1 > MAX_GAP * self.rate or not _is_still_visible(trail, motion, now):
            self._end_trails([trail], fade_out=True)
        else:
            trail.predict(motion)

    def _end_trails(self, trails: Sequence[_Trail], fade_out: bool) -> None:
        for trail in list(trails):
            trail.fade_out = fade_out or trail.missed > 0
            self._active.remove(trail)
            if trail.best_score > self.confidence:
                self._ended.append(trail)

    def _recently_lost(self, face: Face, number: int) -> list[_Trail]:
        recent = [trail for trail in self._ended if trail.fade_out and number - trail.last <= REIDENTIFY_SECONDS * self.rate]
        return [trail for trail in reversed(recent) if _distance(trail.landmarks, trail.size, face) < REIDENTIFY_DISTANCE]


def _sort_trails(trails: Sequence[_Trail]) -> list[_Trail]:
    """Sort by first frame, then in reading order."""
    by_first: dict[int, dict[int, _Trail]] = {}
    for trail in trails:
        by_first.setdefault(trail.first, {})[id(trail.first_face)] = trail
    out = []
    for first in sorted(by_first):
        faces = [trail.first_face for trail in by_first[first].values()]
        out += [by_first[first][id(face)] for face in sort_faces([f for f in faces if f is not None], "reading")]
    return out


def _assign_persons(trails: Sequence[_Trail]) -> dict[_Trail, int]:
    """Return the person of each track. This runs at the end, because a face that reappears is half hidden at first."""
    people: dict[_Trail, int] = {}
    assigned: set[_Trail] = set()
    for n, trail in enumerate(trails):
        same = [
            other
            for other in trail.possible_predecessors
            if other not in assigned and similarity(other.appearance, trail.appearance) >= MIN_APPEARANCE
        ]
        people[trail] = people[same[0]] if same else n
        assigned.update(same[:1])
    return people


def _track_with_velocity(before: GrayImage, now: GrayImage, trail: _Trail) -> Motion | None:
    """Measure the face's motion, starting at its previous velocity, then at its previous place."""
    motion = track_motion(before, now, trail.box, trail.velocity)
    if motion is None and not np.array_equal(trail.velocity, IDENTITY):
        motion = track_motion(before, now, trail.box)
    return motion


def _match_faces(
    trails: Sequence[_Trail],
    places: Sequence[NDArray[Any]],
    faces: Sequence[Face],
    appearances: Sequence[Appearance | None],
    max_distance: float,
) -> list[tuple[int, int]]:
    """Match trails and faces, each at most once, with the smallest total of distance and difference in appearance."""
    from scipy.optimize import linear_sum_assignment

    if not trails or not faces:
        return []
    never = 1e3
    cost = np.full((len(trails), len(faces)), never)
    for i, (trail, place) in enumerate(zip(trails, places)):
        for n, (face, look) in enumerate(zip(faces, appearances)):
            distance, ratio = _distance(place, trail.size, face), _box_size(face.box) / trail.size
            is_near = distance < max_distance and 1 / MAX_SIZE_RATIO < ratio < MAX_SIZE_RATIO
            if is_near and trail.looks_like(look, MIN_MOVED_CONTINUITY):
                cost[i, n] = distance + abs(np.log(ratio)) + APPEARANCE_WEIGHT * (1 - trail.similarity(look))
    return [(int(i), int(n)) for i, n in zip(*linear_sum_assignment(cost)) if cost[i, n] < never]


def _distance(place: NDArray[Any], size: float, face: Face) -> float:
    """Return the mean distance of the landmarks in sizes of the face."""
    return float(np.hypot(*(place - face.landmarks).T).mean()) / size


def _have_changed_sides(trails: Sequence[_Trail], faces: Sequence[Face], appearances: Sequence[Appearance | None]) -> bool:
    """Whether two faces of the previous frame moved in opposite directions by more than their size, and none stayed."""
    moves = []
    for trail in trails:
        place = trail.landmarks.mean(axis=0)
        for face, look in zip(faces, appearances):
            likeness, distance = similarity(trail.last_appearance, look), _distance(trail.landmarks, trail.size, face)
            if distance < 1 and likeness >= MIN_CONTINUITY:
                return False
            if distance >= 1 and likeness >= MIN_SWAP_CONTINUITY:
                moves.append(face.landmarks.mean(axis=0) - place)
    return any(float(one @ two) < 0 for n, one in enumerate(moves) for two in moves[:n])


def _is_still_visible(trail: _Trail, motion: Motion, now: GrayImage) -> bool:
    return trail.similarity(describe(now, transform_points(motion.matrix, trail.landmarks))) >= MIN_APPEARANCE


def _box_size(box: Box) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def _transform_box(matrix: Matrix, box: Box) -> Box:
    """Move the box's center and scale its sides, without rotating it."""
    x, y = transform_points(matrix, np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]))
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0])) / 2
    width, height = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
    return float(x - width), float(y - height), float(x + width), float(y + height)

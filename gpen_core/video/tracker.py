"""Tracks faces from frame to frame, by detections and by the motion of the image."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faces.align import Matrix, fit_similarity, landmark_template
from ..faces.face import Box, Face, Landmarks
from ..faces.select import sort_faces
from ..images.image import FloatImage, ImageData
from .face_motion import (
    IDENTITY,
    GrayImage,
    Motion,
    normalized_correlation,
    sample_patch,
    to_gray,
    track_motion,
    transform_points,
)
from .landmark_smoothing import smooth_landmarks
from .track import Track

MAX_GAP = 0.5  # seconds without a detection that are filled in
MATCH_DISTANCE = 0.35  # of the face's size, between detected landmarks and those moved by the image's motion
SEARCH_DISTANCE = 1.5  # of the face's size, between detected landmarks and those moved by the previous velocity
MAX_SIZE_RATIO = 1.6  # of a face in consecutive frames
VELOCITY_DISTANCE = 0.5  # of the face's size; within it, a detection matches even without a motion from the image
APPEARANCE_SIZE = 32  # px; size of the patch by which a face is recognized
MIN_APPEARANCE = 0.6  # correlation
APPEARANCE_WEIGHT = 0.5  # relative to the distance in sizes of the face
ROW_SIZE = 15  # numbers per face and frame
NO_DETECTION, NO_MOTION = (math.nan,) * ROW_SIZE, (math.nan,) * 6
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
    appearance: FloatImage | None = None
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

    def update(self, face: Face, motion: Motion | None, appearance: FloatImage | None) -> None:
        """Add a frame with a detection."""
        if self.first_face is not None:
            self.moves.extend(NO_MOTION if motion is None else motion.matrix.ravel())
            self.velocity = fit_similarity(self.landmarks, face.landmarks) if motion is None else motion.matrix
        self.first_face, self.best_score = self.first_face or face, max(self.best_score, face.score)
        self.rows.extend((*face.box, face.score, *face.landmarks.ravel()))
        self.landmarks, self.box, self.missed = face.landmarks, face.box, 0
        if appearance is not None:
            self.appearance = (
                appearance
                if self.appearance is None
                else (1 - APPEARANCE_UPDATE) * self.appearance + APPEARANCE_UPDATE * appearance
            )

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
        rows = np.array(self.rows).reshape(-1, ROW_SIZE)[:count]
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

    def add(self, number: int, image: ImageData, faces: Sequence[Face], is_cut: bool) -> None:
        """Add the next frame. `is_cut`: it begins a shot, so all tracks end before it.

        Raises `ValueError` if a frame is missing, because motion is measured between consecutive frames."""
        if self._next_number is not None and number != self._next_number:
            raise ValueError(f"Frame {number} was added after frame {self._next_number - 1}. Add all frames in order.")
        frame = to_gray(image)
        faces = [face for face in faces if np.isfinite(face.landmarks).all() and face.area > 0]
        if is_cut or (self._previous_frame is not None and self._previous_frame.shape != frame.shape):
            self._end_trails(self._active, fade_out=False)
            is_cut = True
        appearances = [_appearance(frame, face.landmarks) for face in faces]
        unmatched = self._associate(frame, faces, appearances)
        fade_in = self._next_number is not None and not is_cut
        for n in unmatched:
            trail = _Trail(number, fade_in)
            trail.update(faces[n], None, appearances[n])
            trail.possible_predecessors = [] if is_cut else self._recently_lost(faces[n], number)
            self._active.append(trail)
        self._previous_frame, self._next_number = frame, number + 1

    def finish(self) -> tuple[Track, ...]:
        """Return all tracks, numbered by first appearance, then in reading order. Add no frames after that."""
        self._end_trails(self._active, fade_out=False)
        people = _assign_persons(_sort_trails(self._ended))
        return tuple(trail.to_track(n, person, self.rate) for n, (trail, person) in enumerate(people.items()))

    def _associate(self, frame: GrayImage, faces: Sequence[Face], appearances: Sequence[FloatImage | None]) -> list[int]:
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
            elif off < VELOCITY_DISTANCE and not trail.missed:
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
            if other not in assigned and _appearance_similarity(other.appearance, trail.appearance) >= MIN_APPEARANCE
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
    appearances: Sequence[FloatImage | None],
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
            if distance < max_distance and 1 / MAX_SIZE_RATIO < ratio < MAX_SIZE_RATIO:
                cost[i, n] = (
                    distance + abs(np.log(ratio)) + APPEARANCE_WEIGHT * (1 - _appearance_similarity(trail.appearance, look))
                )
    return [(int(i), int(n)) for i, n in zip(*linear_sum_assignment(cost)) if cost[i, n] < never]


def _distance(place: NDArray[Any], size: float, face: Face) -> float:
    """Return the mean distance of the landmarks in sizes of the face."""
    return float(np.hypot(*(place - face.landmarks).T).mean()) / size


def _is_still_visible(trail: _Trail, motion: Motion, now: GrayImage) -> bool:
    return (
        _appearance_similarity(trail.appearance, _appearance(now, transform_points(motion.matrix, trail.landmarks)))
        >= MIN_APPEARANCE
    )


def _appearance(image: GrayImage, landmarks: Landmarks) -> FloatImage | None:
    """Return a small patch of the face; None if it is outside the image, or if the landmarks are at one point."""
    if np.ptp(landmarks, axis=0).max() < 1:
        return None
    return sample_patch(image, fit_similarity(landmarks, landmark_template(APPEARANCE_SIZE)), APPEARANCE_SIZE)


def _appearance_similarity(a: FloatImage | None, b: FloatImage | None) -> float:
    return 0.0 if a is None or b is None else normalized_correlation(a, b)


def _box_size(box: Box) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def _transform_box(matrix: Matrix, box: Box) -> Box:
    """Move the box's center and scale its sides, without rotating it."""
    x, y = transform_points(matrix, np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]))
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0])) / 2
    width, height = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
    return float(x - width), float(y - height), float(x + width), float(y + height)

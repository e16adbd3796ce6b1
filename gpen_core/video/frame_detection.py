"""Detects the faces of a video's frames: everywhere in key frames, and between them where the key frames have faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..faces.detection.retinaface import Detector
from ..faces.face import Box, Face
from ..options import RestoreOptions
from ..pipeline.face_detection import detect_faces
from ..progress import StageTimer
from .analysis import FrameT

LOW_CONFIDENCE = 0.5  # detections below `confidence` count if their track has a higher score in another frame
KEY_SECONDS, MAX_KEY_INTERVAL = 0.16, 6  # between key frames; frames, because they wait in memory
MAX_SIZE_RATIO = 1.6  # of one face in two key frames
MAX_MOVE = 3.0  # sizes of the face, between two key frames


def detection_options(options: RestoreOptions) -> RestoreOptions:
    """Return the options for detection in a video, with a lower `confidence`: a track is judged by all of its frames."""
    return replace(options, confidence=min(options.confidence, LOW_CONFIDENCE))


def key_interval(detector: Detector, rate: float) -> int:
    """Return the distance of key frames at `rate` frames per second.

    1 on a GPU, where a search of the whole frame takes hardly longer than one of some windows."""
    return max(1, min(MAX_KEY_INTERVAL, round(KEY_SECONDS * rate))) if detector.device.type == "cpu" else 1


def detect_frames(
    frames: Iterable[FrameT],
    detector: Detector,
    options: RestoreOptions,
    rate: float,
    check: Callable[[], None],
    timer: StageTimer,
    is_needed: Callable[[FrameT], bool] = lambda frame: True,
) -> Iterator[tuple[FrameT, list[Face]]]:
    """Yield each frame with its valid faces. `check` runs before each batch of the detector and may raise.

    Key frames are searched everywhere. In the frames between two of them, small faces are searched only around the faces
    of both, of the next key frame and of the frames before. Large faces are searched everywhere, because that takes little
    time. A small face that is visible for less than `key_interval` frames may be missed. Frames that `is_needed` leaves out
    get no faces."""
    search = _Search(detector, detection_options(options), check, timer)
    interval = key_interval(detector, rate)
    group: list[FrameT] = []
    for frame in frames:
        if is_needed(frame):
            group.append(frame)
            if interval == 1 and len(group) == detector.batch_size:
                yield from search.everywhere(group)
                group = []
            elif interval > 1 and len(group) == (1 if search.is_start else interval):
                yield from search.add(group)
                group = []
            continue
        yield from search.everywhere(group) if interval == 1 else search.end(group)
        group = []
        check()
        yield frame, []
    yield from search.everywhere(group) if interval == 1 else search.end(group)


class _Search:
    """Finds the faces of consecutive groups of frames. The last frame of a group is its key frame.

    A group waits until the key frame of the next one is searched, because a faint face may be found in only one of them."""

    def __init__(self, detector: Detector, options: RestoreOptions, check: Callable[[], None], timer: StageTimer) -> None:
        self._detector, self._options, self._check, self._timer = detector, options, check, timer
        self._waiting: Sequence[Any] = ()
        self._key_faces: list[Face] = []
        """Of the group that waits."""
        self._before: list[Box] = []
        """The faces of the group before it."""

    @property
    def is_start(self) -> bool:
        """Whether nothing is known of the frames before the next group, so that it should have one frame."""
        return not self._waiting

    def add(self, group: Sequence[FrameT]) -> Iterator[tuple[FrameT, list[Face]]]:
        """Search the key frame of the next group. Yield the frames of the one before with their faces."""
        ((_, key_faces),) = self.everywhere(group[-1:])
        yield from self._between([face.box for face in key_faces])
        self._waiting, self._key_faces = tuple(group), key_faces

    def end(self, group: Sequence[FrameT]) -> Iterator[tuple[FrameT, list[Face]]]:
        """Add the last group before a gap, which may be empty, and yield all frames that wait."""
        if group:
            yield from self.add(group)
        yield from self._between([])
        self._waiting, self._key_faces, self._before = (), [], []

    def everywhere(self, frames: Sequence[FrameT]) -> Iterator[tuple[FrameT, list[Face]]]:
        """Search these frames as a whole, and yield them with their faces."""
        yield from self._batch(frames, None)

    def _between(self, after: Sequence[Box]) -> Iterator[tuple[Any, list[Face]]]:
        """Search the frames that wait. `after`: the faces of the next key frame."""
        if not self._waiting:
            return
        *between, key = self._waiting
        found = [face.box for face in self._key_faces]
        near = [*boxes_between(self._before, found), *boxes_between(found, after)]
        size = self._detector.batch_size
        for start in range(0, len(between), size):
            for frame, faces in self._batch(between[start : start + size], near):
                found += [face.box for face in faces]
                yield frame, faces
        self._before = found
        yield key, self._key_faces

    def _batch(self, frames: Sequence[FrameT], near: Sequence[Box] | None) -> Iterator[tuple[FrameT, list[Face]]]:
        if not frames:
            return
        self._check()
        with self._timer.stage("detect"):
            all_faces = detect_faces(self._detector, [frame.image for frame in frames], self._options, near)
        for frame, faces in zip(frames, all_faces):
            yield frame, [face for face in faces if face.reason is None]


def boxes_between(before: Sequence[Box], after: Sequence[Box]) -> list[Box]:
    """Return where faces may be that were in the boxes `before` and are in the boxes `after`, some frames later.

    These are all boxes, and for each face that has moved away from all boxes before the box around both places."""
    places = [*before, *after]
    earlier = np.array(before, np.float64).reshape(-1, 4)
    for box in after:
        now = np.array(box)
        middles, sides = (earlier[:, :2] + earlier[:, 2:]) / 2, np.sqrt(np.maximum(_areas(earlier), 1e-9))
        side = float(np.sqrt(max(float(_areas(now[None])[0]), 1e-9)))
        moved = np.hypot(*(middles - (now[:2] + now[2:]) / 2).T) / side
        like = (np.abs(np.log(sides / side)) < np.log(MAX_SIZE_RATIO)) & (moved < MAX_MOVE)
        if like.any():
            nearest = earlier[np.flatnonzero(like)[moved[like].argmin()]]
            low, high = np.minimum(now[:2], nearest[:2]), np.maximum(now[2:], nearest[2:])
            places.append((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    return places


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))

"""The progress of the two passes over a video, with the time that is left until both are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..faces.face import Face
from ..faces.select import select_faces
from ..options import RestoreOptions, base_selection, face_references
from ..progress import Progress, ProgressEvent
from .analysis import FrameLike, FrameT

MIN_STEPS = 5  # frames or faces that are timed before the time left is known
PRIOR_FACES = 10  # how many timed faces the time of one face counts that was measured before the pass
MIN_MEASURED_FRAMES = 300  # the first pass of shorter videos does not run the network to learn its speed

Clock = Callable[[], float]
MeasureFace = Callable[[FrameLike, Face], float]
"""Returns the seconds that the second pass needs for a face."""


@dataclass
class PassEstimate:
    """The time left of one pass. Faces, and frames without any, are timed separately.

    Frames without faces count as 0 s until some of them were timed."""

    empty_left: int
    """Frames without faces that are still to do."""
    faces_left: int
    """Faces that are still to do."""
    face_seconds: float | None = None
    """Seconds per face, measured before the pass."""
    clock: Clock = time.monotonic
    _last: float | None = field(default=None, init=False)
    _empty: float = field(default=0.0, init=False)
    _empty_seconds: float = field(default=0.0, init=False)
    _faces: float = field(default=0.0, init=False)
    _faces_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.face_seconds is not None:
            self._faces, self._faces_seconds = PRIOR_FACES, PRIOR_FACES * self.face_seconds

    def begin(self) -> None:
        """Begin to count time, also for the next frame."""
        self._last = self.clock()

    def pause(self) -> None:
        """Do not count the time until the next frame, in which the stages only fill."""
        self._last = None

    def step(self, faces: int) -> None:
        """Call this after each frame, with the number of its faces."""
        now = self.clock()
        seconds = 0.0 if self._last is None else now - self._last
        if faces:
            self.faces_left -= faces
            self._faces += faces if self._last is not None else 0
            self._faces_seconds += seconds
        else:
            self.empty_left -= 1
            self._empty += 1 if self._last is not None else 0
            self._empty_seconds += seconds
        self._last = now

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the pass, or None if too little was timed."""
        has_faces, has_empty = self._faces >= MIN_STEPS, self._empty >= MIN_STEPS
        if not has_faces and (self.faces_left > 0 or not has_empty):
            return None
        faces = max(0, self.faces_left) * self._faces_seconds / self._faces if has_faces else 0.0
        return faces + (max(0, self.empty_left) * self._empty_seconds / self._empty if has_empty else 0.0)


class AnalyzeProgress:
    """Sends the events of the first pass.

    The time left of both passes is known if `measure` can say how long the second one needs for a face, if the options
    leave no doubt about which faces it restores, and if there is at least one in every other frame: the second pass's time
    for frames without faces is not known before it begins."""

    def __init__(
        self,
        progress: Progress,
        options: RestoreOptions,
        count: int | None,
        is_only_pass: bool = False,
        measure: MeasureFace | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`count`: about the number of frames, or None. `is_only_pass`: faces are only listed."""
        self._progress, self._options, self._count, self._is_only_pass = progress, options, count, is_only_pass
        is_certain = isinstance(base_selection(options.faces), str) and not face_references(options.faces)
        self._measure = measure if is_certain and (count or 0) >= MIN_MEASURED_FRAMES else None
        self._estimate = PassEstimate(0, count or 0, clock=clock)
        self._seen = self._faces = 0
        self._face_seconds: float | None = None

    def watch(self, detections: Iterable[tuple[FrameT, list[Face]]]) -> Iterator[tuple[FrameT, list[Face]]]:
        """Yield the detected faces of each frame, and note them."""
        for frame, faces in detections:
            self._note(frame, faces)
            yield frame, faces

    def _note(self, frame: FrameLike, faces: Sequence[Face]) -> None:
        self._seen += 1
        if self._measure is None:
            return
        sure = [face for face in faces if face.score >= self._options.confidence]
        chosen = [face for face in select_faces(sure, frame.image.size, self._options) if face.reason is None]
        self._faces += len(chosen)
        if chosen and self._face_seconds is None and self._seen > MIN_STEPS:  # the header may promise too many frames
            self._face_seconds = self._measure(frame, max(chosen, key=lambda face: face.area))
            self._estimate.pause()

    def done(self, number: int) -> None:
        """Send the event of this number of finished frames."""
        self._estimate.step(1)
        text = "Looking for faces" if self._is_only_pass else "Looking for faces (pass 1 of 2)"
        number = number if self._count is None else min(number, self._count)
        self._progress(ProgressEvent("analyze", number, self._count, "frame", text, self._total_seconds_left()))

    def _total_seconds_left(self) -> float | None:
        left = self._estimate.seconds_left
        if left is None or self._count is None or self._is_only_pass:
            return left if self._count is not None else None
        if self._face_seconds is None or 2 * self._faces < self._seen:
            return None
        return left + self._face_seconds * self._count * self._faces / self._seen


class RestoreProgress:
    """Sends the events of the second pass, with the time left."""

    def __init__(
        self,
        progress: Progress,
        faces: NDArray[np.int64],
        todo: Iterable[range] | None = None,
        face_seconds: float | None = None,
        is_only_pass: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        """`faces` [N]: number of faces to restore in each frame. `todo`: the frames that no earlier run finished (default:
        all). `face_seconds`: measured in the first pass. `is_only_pass`: the faces were already known."""
        self._progress, self._faces, self._text = progress, faces, _restore_text(is_only_pass)
        counts = faces if todo is None else np.concatenate([faces[one.start : one.stop] for one in (range(0), *todo)])
        self._estimate = PassEstimate(int((counts == 0).sum()), int(counts.sum()), face_seconds, clock)

    def begin(self, number: int) -> None:
        """Send the event of frame `number`, with which the restoration begins or goes on."""
        self._estimate.pause()
        self._send(number)

    def done(self, number: int) -> None:
        """Send the event of the finished frame `number`."""
        self._estimate.step(int(self._faces[number]))
        self._send(number + 1)

    def _send(self, done: int) -> None:
        left = self._estimate.seconds_left
        self._progress(ProgressEvent("restore", done, len(self._faces), "frame", self._text, left))


class SegmentsProgress:
    """Sends the events of the second pass where other processes restore its segments, in any order."""

    def __init__(self, progress: Progress, count: int, is_only_pass: bool = False, clock: Clock = time.monotonic) -> None:
        """`count`: number of frames."""
        self._progress, self._count, self._done, self._text = progress, count, 0, _restore_text(is_only_pass)
        self._estimate = PassEstimate(0, count, clock=clock)
        self._estimate.begin()
        self._send()

    def done(self, frames: range, is_new: bool) -> None:
        """Send the event of a finished segment. `is_new`: no earlier run restored it."""
        self._done += len(frames)
        if is_new:
            self._estimate.step(len(frames))
        else:
            self._estimate.faces_left -= len(frames)
        self._send()

    def _send(self) -> None:
        left = self._estimate.seconds_left
        self._progress(ProgressEvent("restore", self._done, self._count, "frame", self._text, left))


def _restore_text(is_only_pass: bool) -> str:
    return "Restoring frames" if is_only_pass else "Restoring frames (pass 2 of 2)"

"""The time left of several videos that are restored one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

from ..progress import Progress, ProgressEvent

STAGES = ("analyze", "restore")  # the stages whose events say how long the current video will take


class VideosTimeLeft:
    """Adds the time for the next videos to the time left of the current one.

    The next videos are expected to take as long per frame as those before."""

    def __init__(self, frame_counts: Mapping[Any, int | None], clock: Callable[[], float] = time.monotonic) -> None:
        """`frame_counts`: about the number of frames of each video that will be restored, or None if it is unknown."""
        self._left: dict[Hashable, int | None] = dict(frame_counts)
        self._clock = clock
        self._frames, self._seconds = 0, 0.0

    def start(self, video: Hashable, progress: Progress) -> Progress:
        """Begin a video. Return a callback that passes the events on with the time left of all videos."""
        started, frames = self._clock(), self._left.pop(video, None)
        others = list(self._left.values())

        def notify(event: ProgressEvent) -> None:
            if event.stage in STAGES:
                spent = self._clock() - started
                left = self._seconds_left(event.total_seconds_left, spent, frames, others)
                event = replace(event, total_seconds_left=left)
            progress(event)

        return notify

    def _seconds_left(
        self, own_left: float | None, spent: float, frames: int | None, others: list[int | None]
    ) -> float | None:
        counts = [count for count in others if count is not None]
        if frames is None or len(counts) < len(others):
            return None if others else own_left
        if own_left is None:
            if not self._frames:
                return None
            own_left = max(0.0, frames * self._seconds / self._frames - spent)
        per_frame = (self._seconds + spent + own_left) / (self._frames + frames)
        return own_left + sum(counts) * per_frame

    def finish(self, frames: int, seconds: float) -> None:
        """Count a video that was restored as a whole."""
        self._frames, self._seconds = self._frames + frames, self._seconds + seconds

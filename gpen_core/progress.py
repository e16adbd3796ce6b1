"""Progress events, and the callback that receives them and can stop the work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

ProgressStage = Literal[
    "download", "verify", "load", "read", "detect", "analyze", "identify", "upscale", "restore", "join", "batch"
]
ProgressUnit = Literal["byte", "model", "image", "tile", "face", "frame", "video"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The progress of one stage."""

    stage: ProgressStage
    """The current stage:

    - `download`: fetching model files, or waiting for them
    - `verify`: computing the SHA-256 of a downloaded file
    - `load`: loading a model's weights
    - `read`: reading the input
    - `detect`: detecting faces in images
    - `analyze`: the first pass over a video, which detects and tracks its faces
    - `identify`: comparing faces, or writing the page of the people
    - `upscale`: upscaling the image
    - `restore`: restoring faces
    - `join`: joining a video's restored segments
    - `batch`: all images or videos of a command line run
    """
    done: int
    """Completed units, from 0."""
    total: int | None
    """Total number of units; None if unknown."""
    unit: ProgressUnit
    """The unit of `done` and `total`: `byte`, `model`, `image`, `tile` (while upscaling), `face`, `frame` or `video`."""
    text: str
    """The text to display, such as "Restoring faces"."""
    total_seconds_left: float | None = field(default=None, compare=False)
    """Estimated seconds until the whole video is done: both passes, or all videos of a command line run. None if unknown;
    images have none."""

    @property
    def time_left(self) -> str | None:
        """`total_seconds_left` to display, such as "about 12 min left in all", or None."""
        return None if self.total_seconds_left is None else f"{_about(self.total_seconds_left)} left in all"


def _about(seconds: float) -> str:
    """Return a time without more precision than an estimate has."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(5 * round(seconds / 300), 60)
    return f"about {hours} h {minutes} min" if minutes and hours < 10 else f"about {round(seconds / 3600)} h"


Progress = Callable[[ProgressEvent], None]
"""Called with each event in the worker thread. It stops the work by raising `Interrupted`."""


def no_progress(event: ProgressEvent) -> None:
    """A progress callback that ignores all events."""


def pluralize(count: int, noun: str, plural: str | None = None) -> str:
    """`1 face`, `2 faces`, `1,000 faces`. `plural`: if it is not the noun with an s, such as `people`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


class ReplayableProgress:
    """A progress callback that can repeat its last event, so that a waiting thread can be stopped, too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last: ProgressEvent | None = None

    def __call__(self, event: ProgressEvent) -> None:
        self._last = event
        self._progress(event)

    def replay(self) -> None:
        """Send the last event again, if there is one."""
        if self._last is not None:
            self._progress(self._last)


@dataclass
class StageTimer:
    """Wall-clock seconds by stage."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("detect", "align", "network", "mask", "blend"), 0.0)
    )

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

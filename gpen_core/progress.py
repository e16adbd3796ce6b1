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
    - `identify`: comparing the faces of a video
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


Progress = Callable[[ProgressEvent], None]
"""Called with each event in the worker thread. It stops the work by raising `Interrupted`."""


def no_progress(event: ProgressEvent) -> None:
    """A progress callback that ignores all events."""


def pluralize(count: int, noun: str) -> str:
    """`1 face`, `2 faces`, `1,000 faces`."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


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

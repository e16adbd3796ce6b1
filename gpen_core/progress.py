"""Progress events, and the callable that receives them and may stop the work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

ProgressStage = Literal["download", "verify", "load", "read", "detect", "analyze", "upscale", "restore", "join", "batch"]
ProgressUnit = Literal["byte", "model", "image", "tile", "face", "frame"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far a piece of work is."""

    stage: ProgressStage
    """What is being done.

    - `download`: fetching model files, or waiting for them
    - `verify`: hashing a downloaded file
    - `load`: loading a model's weights
    - `read`: reading the input
    - `detect`: detecting faces in images
    - `analyze`: the first pass over a video, which detects and follows its faces
    - `upscale`: upscaling the image
    - `restore`: restoring faces
    - `join`: joining a video's restored segments
    - `batch`: all images of a run of the command line
    """
    done: int
    """In `unit`, from 0."""
    total: int | None
    """In `unit`; None if unknown."""
    unit: ProgressUnit
    """What `done` and `total` count: `byte`, `model`, `image`, `tile` (of an image to upscale), `face` or `frame`."""
    text: str
    """The stage for people to read, such as "Restoring faces"."""


Progress = Callable[[ProgressEvent], None]
"""Receives each event in the thread that works. It stops the work by raising `Interrupted`."""


def no_progress(event: ProgressEvent) -> None:
    """A progress callable that ignores all events."""


def pluralize(count: int, noun: str) -> str:
    """`1 face`, `2 faces`, `1,000 faces`."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


class ReplayableProgress:
    """A progress callable that can repeat its last event, so that a thread that only waits can be stopped, too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last: ProgressEvent | None = None

    def __call__(self, event: ProgressEvent) -> None:
        self._last = event
        self._progress(event)

    def replay(self) -> None:
        """Sends the last event again, if there was one."""
        if self._last is not None:
            self._progress(self._last)


@dataclass
class StageTimer:
    """Wall seconds by stage."""

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

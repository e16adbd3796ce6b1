"""How work tells of itself, and how it is stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Progress = Callable[[int, int, str], None]
"""`progress(done, total, text)`, total 0 where it is not known yet; it stops the work by raising `Interrupted`."""


def no_progress(done: int, total: int, text: str) -> None:
    """A progress callable for whoever has none."""


def pluralize(count: int, noun: str) -> str:
    """`1 face`, `2 faces`, `1,000 faces`."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


class ReplayableProgress:
    """A progress callable that can say again what it said last, so that whoever only waits can be stopped."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last: tuple[int, int, str] | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        self._last = (done, total, text)
        self._progress(done, total, text)

    def replay(self) -> None:
        if self._last is not None:
            self._progress(*self._last)


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

"""Connects gpen_core's progress events to the host's progress bar."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modules import shared

from gpen_core import Interrupted

if TYPE_CHECKING:
    from gpen_core import Progress, ProgressEvent

MB = 1e6
COUNTERS = ("job_no", "job_count", "sampling_step", "sampling_steps")


class HostProgress:
    """Progress callback that updates the host and calls `progress`. Raises `Interrupted` after Interrupt or Skip."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._format = ProgressText()

    def __call__(self, event: ProgressEvent) -> None:
        state = shared.state
        if state.interrupted or state.skipped:
            raise Interrupted("Interrupted. The image was not changed.")
        state.sampling_step = event.done if event.total else 0  # resets the value of the last stage
        if event.total:
            state.sampling_steps = event.total
        state.textinfo = f"GPEN: {self._format(event)}"
        if self._progress is not None:
            self._progress(event)


class ProgressText:
    """Formats progress events as text. Figures of a download come first, because the host's bar cuts off long texts."""

    def __init__(self) -> None:
        self._text, self._start_done, self._start_time = "", 0, 0.0

    def __call__(self, event: ProgressEvent) -> str:
        if event.unit != "byte":
            return f"{event.text} {event.done}/{event.total}" if event.total else event.text
        if not event.done and not event.total:
            return event.text
        of_total = f" of {event.total / MB:.0f}" if event.total else ""
        return f"{event.done / MB:.0f}{of_total} MB{self._rate(event)}, {event.text}"

    def _rate(self, event: ProgressEvent) -> str:
        now, done = time.monotonic(), event.done
        if event.text != self._text or done < self._start_done:
            self._text, self._start_done, self._start_time = event.text, done, now
        seconds = now - self._start_time
        return f", {(done - self._start_done) / MB / seconds:.1f} MB/s" if seconds > 1 and done > self._start_done else ""


@contextmanager
def progress_scope() -> Iterator[None]:
    """Make the bar show our part of the current job, and restore the host's counters at the end.

    The host counts a job as done before GPEN begins: the Extras page when it starts an image, other pages after sampling."""
    state = shared.state
    before = {name: getattr(state, name) for name in COUNTERS}
    state.job_no, state.job_count = max(before["job_no"] - 1, 0), max(before["job_count"], 1)
    state.sampling_step = 0
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(state, name, value)

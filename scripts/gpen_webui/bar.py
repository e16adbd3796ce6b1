"""The host's progress bar and its text, while a file is fetched and while faces are restored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modules import shared

from gpen_core import Interrupted

if TYPE_CHECKING:
    from gpen_core import Progress

BYTES = 1 << 17  # more than this is no number of faces
MB = 1e6
COUNTERS = ("job_no", "job_count", "sampling_step", "sampling_steps")


class HostProgress:
    """Told of progress, which a listener hears, too; raises `Interrupted` once the user has interrupted or skipped."""

    def __init__(self, told: Progress | None = None) -> None:
        self._told = told
        self._text, self._from, self._since = "", 0, 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        state = shared.state
        if state.interrupted or state.skipped:
            raise Interrupted("Interrupted: the picture is left as it was.")
        state.sampling_step = done if total else 0  # not where the last work ended
        if total:
            state.sampling_steps = total
        state.textinfo = f"GPEN: {self._in_words(done, total, text)}"
        if self._told is not None:
            self._told(done, total, text)

    def _in_words(self, done: int, total: int, text: str) -> str:
        """The figures of a download come first: the bar cuts off what is long."""
        if max(done, total) <= BYTES:
            return f"{text} {done}/{total}" if total else text
        of_total = f" of {total / MB:.0f}" if total else ""
        return f"{done / MB:.0f}{of_total} MB{self._rate(done, text)}, {text}"

    def _rate(self, done: int, text: str) -> str:
        now = time.monotonic()
        if text != self._text or done < self._from:
            self._text, self._from, self._since = text, done, now
        seconds = now - self._since
        return f", {(done - self._from) / MB / seconds:.1f} MB/s" if seconds > 1 and done > self._from else ""


@contextmanager
def progress_scope() -> Iterator[None]:
    """Makes the bar show our share of the job in hand. The host counts a job as done before we begin: its Extras page when
    it takes up a picture, the others when a picture is sampled. Everything is put back in the end."""
    state = shared.state
    before = {name: getattr(state, name) for name in COUNTERS}
    state.job_no, state.job_count = max(before["job_no"] - 1, 0), max(before["job_count"], 1)
    state.sampling_step = 0
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(state, name, value)

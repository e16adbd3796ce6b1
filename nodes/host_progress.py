"""Connects gpen_core's progress events to ComfyUI's progress bar and interrupt button."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import comfy.model_management as management
import comfy.utils
import server

from ..gpen_core import Progress, ProgressEvent

DONE = "Done"
FINE_STEPS = 10_000  # steps of a bar for many frames
WEIGHTS_UNITS = ("byte", "model")


class NodeProgress:
    """Progress callback that moves one bar. It raises ComfyUI's own exception after an interrupt, also within a face."""

    def __init__(self, node_id: Any = None) -> None:
        """With `node_id`, the node also shows the current step."""
        self._node_id = node_id
        self._last_text = ""
        self._bar = comfy.utils.ProgressBar(1)
        self._last_update: tuple[int, int] | None = None

    def __enter__(self) -> NodeProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Show on the node that the work is done. After an error, the last text stays."""
        if kind is None and self._last_text:
            self._send_text(DONE)

    def __call__(self, event: ProgressEvent) -> None:
        self._report(event, event.done, event.total)

    def _report(self, event: ProgressEvent, done: int, total: int | None) -> None:
        management.throw_exception_if_processing_interrupted()
        self._send_text(_in_words(event, done, total))
        if total and event.stage != "load":  # the number of loaded models says nothing about the work that follows
            self._move(done, total)

    def _move(self, done: int, total: int) -> None:
        if (done, total) != self._last_update:
            self._last_update = (done, total)
            self._bar.update_absolute(done, total)

    def _send_text(self, text: str) -> None:
        running: Any = getattr(server.PromptServer, "instance", None)
        if self._node_id is None or text == self._last_text or not hasattr(running, "send_progress_text"):
            return
        self._last_text = text
        running.send_progress_text(text, self._node_id)

    def subrange(self, start: float, end: float) -> Progress:
        """Return a progress callback that moves the bar from `start` to `end` (fractions, 0 to 1). The text has the same
        percentage. Weights that are downloaded meanwhile only change the text."""
        if (start, end) == (0, 1):
            return self

        def notify(event: ProgressEvent) -> None:
            if event.unit in WEIGHTS_UNITS:
                management.throw_exception_if_processing_interrupted()
                self._send_text(_in_words(event, event.done, event.total))
                return
            fraction = event.done / event.total if event.total else 0
            self._report(event, round(FINE_STEPS * (start + (end - start) * fraction)), FINE_STEPS)

        return notify


def _in_words(event: ProgressEvent, done: int, total: int | None) -> str:
    if total and done < total and (event.total or done):
        left = "" if event.time_left is None else f", {event.time_left}"
        return f"{event.text}: {done / total:.0%}{left}"
    if total:
        return event.text
    if done and event.unit != "byte":
        return f"{event.text}: {event.unit} {done:,}"
    return event.text

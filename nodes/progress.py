"""ComfyUI's progress bar and interrupt button, as the progress callable that gpen_core takes."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
import comfy.utils
import server

from ..gpen_core import Progress

FINE = 10_000  # steps of a bar for many frames


class Reporter:
    """Moves one bar; stops the work, also within a face, by raising ComfyUI's own exception when it was interrupted."""

    def __init__(self, node_id: Any = None) -> None:
        """With a node's id, what is being done stands on that node, too."""
        self._node_id = node_id
        self._said = ""
        self._bar = comfy.utils.ProgressBar(1)
        self._shown: tuple[int, int] | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        management.throw_exception_if_processing_interrupted()
        self._say(f"{text}: {done / total:.0%}" if total and done < total else text)
        if total and (done, total) != self._shown:
            self._shown = (done, total)
            self._bar.update_absolute(done, total)

    def _say(self, text: str) -> None:
        running: Any = getattr(server.PromptServer, "instance", None)
        if self._node_id is None or text == self._said or not hasattr(running, "send_progress_text"):
            return
        self._said = text
        running.send_progress_text(text, self._node_id)

    def part(self, start: float, end: float) -> Progress:
        """Progress of a part of the work, which moves the bar from `start` to `end`, both from 0 to 1."""
        if (start, end) == (0, 1):
            return self
        return lambda done, total, text: self(
            round(FINE * (start + (end - start) * done / total)) if total else 0, FINE if total else 0, text
        )

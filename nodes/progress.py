"""ComfyUI's progress bar and interrupt button, as the progress callable that gpen_core takes."""

from __future__ import annotations

import comfy.model_management as management
import comfy.utils

from ..gpen_core import Progress

FINE = 10_000  # steps of a bar for many frames


class Reporter:
    """Moves one bar; stops the work, also within a face, by raising ComfyUI's own exception when it was interrupted."""

    def __init__(self) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._shown: tuple[int, int] | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        management.throw_exception_if_processing_interrupted()
        if total and (done, total) != self._shown:
            self._shown = (done, total)
            self._bar.update_absolute(done, total)

    def part(self, start: float, end: float) -> Progress:
        """Progress of a part of the work, which moves the bar from `start` to `end`, both from 0 to 1."""
        if (start, end) == (0, 1):
            return self
        return lambda done, total, text: self(
            round(FINE * (start + (end - start) * done / total)) if total else 0, FINE if total else 0, text
        )

"""ComfyUI's progress bar and interrupt button, as the progress callable that gpen_core takes."""

from __future__ import annotations

import comfy.model_management as management
import comfy.utils


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

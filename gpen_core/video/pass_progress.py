"""The progress of the two passes over a video. A display shows the time left of one pass, so the text says which."""

from __future__ import annotations

from ..progress import ProgressEvent


def analyze_event(done: int, total: int | None, is_only_pass: bool = False) -> ProgressEvent:
    """Return the event of the first pass after `done` frames. `is_only_pass`: faces are only listed."""
    text = "Looking for faces" if is_only_pass else "Looking for faces (pass 1 of 2)"
    return ProgressEvent("analyze", done, total, "frame", text)


def restore_event(done: int, total: int) -> ProgressEvent:
    """Return the event of the second pass after `done` frames."""
    return ProgressEvent("restore", done, total, "frame", "Restoring frames (pass 2 of 2)")

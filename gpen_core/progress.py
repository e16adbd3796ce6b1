"""How long work tells of itself, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""`progress(done, total, text)`, total 0 where it is not known yet; it stops the work by raising `Interrupted`."""


def silent(done: int, total: int, text: str) -> None:
    """A progress callable for whoever has none."""

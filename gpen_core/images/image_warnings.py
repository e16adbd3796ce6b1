"""Warnings about one image, which do not know its name. A caller that knows it collects them; otherwise they are logged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

log = logging.getLogger(__name__)

_collected: ContextVar[list[str] | None] = ContextVar("_collected", default=None)


def warn(text: str) -> None:
    """Log the text, or add it to the list of the innermost `collect_warnings` of this thread."""
    collected = _collected.get()
    if collected is None:
        log.warning("%s", text)
    else:
        collected.append(text)


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Yield the list of the warnings in this block, which are not logged."""
    collected: list[str] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)

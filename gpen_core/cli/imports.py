"""Imports torch in less time."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import torch in this block, and keep the garbage collector from looking through what it made.

    torch makes so many objects that searching them, again and again and once more when the process ends, takes a tenth of
    the time of one photo. Where torch is there already, in a host or a worker, nothing changes."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()

"""Limits the memory that API clients can make this process use."""

from __future__ import annotations

import threading

from gpen_core import GpenError


class CapacityExceeded(GpenError):
    """The memory limit for API clients is reached."""


class MemoryBudget:
    """Counts the bytes of several holders, up to `limit`. A single holder may exceed the limit."""

    def __init__(self, limit: int, message: str) -> None:
        self.limit = limit
        self._message = message
        self._lock = threading.Lock()
        self._used = 0

    def reserve(self) -> Reservation:
        return Reservation(self)

    def check(self, size: int, own: int = 0) -> None:
        """Raise `CapacityExceeded` if a holder of `own` bytes may not grow to `size` bytes."""
        others = self._used - own
        if size > own and others and others + size > self.limit:
            raise CapacityExceeded(self._message)

    def _update(self, before: int, size: int, force: bool) -> None:
        with self._lock:
            if not force:
                self.check(size, before)
            self._used += size - before


class Reservation:
    """The bytes of one holder, until they are released."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    def check(self, size: int) -> None:
        """Raise `CapacityExceeded` if this holder may not grow to `size` bytes."""
        self._budget.check(size, self._size)

    def resize(self, size: int, force: bool = False) -> None:
        """Set the number of bytes. Raises `CapacityExceeded` over the limit, unless `force` is true."""
        self._budget._update(self._size, size, force)
        self._size = size

    def release(self) -> None:
        """Release the bytes. May be called more than once."""
        self.resize(0)

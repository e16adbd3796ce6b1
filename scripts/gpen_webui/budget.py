"""How many bytes the clients of the API may make this process hold."""

from __future__ import annotations

import threading

from gpen_core import GpenError


class CapacityExceeded(GpenError):
    """The server holds as much for its clients as it may."""


class MemoryBudget:
    """Counts the bytes of several holders and refuses more than `limit`. A single holder is always served."""

    def __init__(self, limit: int, message: str) -> None:
        self.limit = limit
        self._message = message
        self._lock = threading.Lock()
        self._used = 0

    def reserve(self) -> Reservation:
        return Reservation(self)

    def check(self, size: int, own: int = 0) -> None:
        """Raises `CapacityExceeded` if a holder of `own` bytes may not hold `size`."""
        others = self._used - own
        if size > own and others and others + size > self.limit:
            raise CapacityExceeded(self._message)

    def _update(self, before: int, size: int, force: bool) -> None:
        with self._lock:
            if not force:
                self.check(size, before)
            self._used += size - before


class Reservation:
    """The bytes of one holder, until it is released."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    def check(self, size: int) -> None:
        """Raises `CapacityExceeded` if this may not hold `size` bytes."""
        self._budget.check(size, self._size)

    def resize(self, size: int, force: bool = False) -> None:
        """Raises `CapacityExceeded` if it may not grow to that size."""
        self._budget._update(self._size, size, force)
        self._size = size

    def release(self) -> None:
        """May be called more than once."""
        self.resize(0)

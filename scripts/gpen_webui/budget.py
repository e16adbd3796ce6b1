"""How many bytes the clients of the API may make this process hold."""

from __future__ import annotations

import threading

from gpen_core import GpenError


class Full(GpenError):
    """The server holds as much for its clients as it may."""


class Budget:
    """Counts the bytes of several holders and refuses more than `limit`. A single holder is always served."""

    def __init__(self, limit: int, problem: str) -> None:
        self.limit = limit
        self._problem = problem
        self._lock = threading.Lock()
        self._held = 0

    def hold(self) -> Hold:
        return Hold(self)

    def check(self, size: int, own: int = 0) -> None:
        """Raises `Full` if a holder of `own` bytes may not hold `size`."""
        others = self._held - own
        if size > own and others and others + size > self.limit:
            raise Full(self._problem)

    def _change(self, before: int, size: int, is_forced: bool) -> None:
        with self._lock:
            if not is_forced:
                self.check(size, before)
            self._held += size - before


class Hold:
    """The bytes of one holder, until it is released."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def check(self, size: int) -> None:
        """Raises `Full` if this may not hold `size` bytes."""
        self._budget.check(size, self._size)

    def resize(self, size: int, is_forced: bool = False) -> None:
        """Raises `Full` if it may not grow to that size."""
        self._budget._change(self._size, size, is_forced)
        self._size = size

    def release(self) -> None:
        """May be called more than once."""
        self.resize(0)

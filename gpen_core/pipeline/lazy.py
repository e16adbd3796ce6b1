"""Lazy loading of networks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..errors import WeightsError
from ..progress import Progress, ProgressEvent, no_progress

Loaded = TypeVar("Loaded")

POLL_INTERVAL = 0.2  # seconds between progress events of a waiting thread


class Lazy(Generic[Loaded]):
    """A value that is loaded on first use, and only once if several threads need it at the same time."""

    def __init__(self, load: Callable[[Progress], Loaded]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._value: Loaded | None = None
        self._failure: WeightsError | None = None

    @property
    def loaded_value(self) -> Loaded | None:
        """The value if it is loaded, else None."""
        return self._value

    def get(self, progress: Progress = no_progress) -> Loaded:
        """Return the value, and load it if necessary. `progress` may raise `Interrupted`, also while another thread loads.

        Raises the errors of loading. A `WeightsError` is also raised in threads that waited for the same file, so they do
        not try again."""
        value, previous_failure = self._value, self._failure
        if value is not None:
            return value
        with _hold_lock(self._lock, progress):
            if (value := self._value) is not None:
                return value
            if self._failure is not None and self._failure is not previous_failure:
                raise self._failure
            value = self._try_load(progress)
            self._value = value
        return value

    def pop(self) -> Loaded | None:
        """Remove and return the value if it is loaded. It is loaded again on next use."""
        value, self._value = self._value, None
        return value

    def _try_load(self, progress: Progress) -> Loaded:
        try:
            return self._load(progress)
        except WeightsError as error:
            self._failure = type(error)(*error.args)  # without the traceback, which would keep the caller's images in memory
            raise


@contextmanager
def _hold_lock(lock: threading.Lock, progress: Progress) -> Iterator[None]:
    while not lock.acquire(timeout=POLL_INTERVAL):
        progress(ProgressEvent("load", 0, None, "model", "Waiting for a model"))
    try:
        yield
    finally:
        lock.release()

"""A file that cannot be had is asked for once, not again for every image of a batch."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpen_core import WeightsChanged, WeightsError

from . import host

RETRY_MINUTES = 3


@dataclass(frozen=True)
class _Failure:
    request: Hashable
    folder_state: Hashable
    kind: type[WeightsError]
    text: str
    """What the error said. The error itself would keep the images of its traceback in memory."""
    failed_at: float

    def applies_to(self, request: Hashable, folders: Sequence[Path]) -> bool:
        is_recent = time.monotonic() < self.failed_at + 60 * RETRY_MINUTES
        return is_recent and self.request == request and self.folder_state == _folder_state(folders)


_last_failure: _Failure | None = None


@contextmanager
def fail_fast(request: Hashable, folders: Sequence[Path]) -> Iterator[None]:
    """Raises the `WeightsError` of the last time at once where the same is wanted and nothing has changed in the folders.

    An error of the body is kept for that, and says where this host has its weights."""
    global _last_failure
    if _last_failure is not None and _last_failure.applies_to(request, folders):
        raise _last_failure.kind(_last_failure.text)
    try:
        yield
    except WeightsError as error:
        text = f"{error}\n{_recovery_help(error)} {_retry_help()}"
        _last_failure = _Failure(request, _folder_state(folders), type(error), text, time.monotonic())
        raise type(error)(text) from error
    _last_failure = None


def clear() -> None:
    """The user has changed something: what was missing is asked for again."""
    global _last_failure
    _last_failure = None


def _recovery_help(error: WeightsError) -> str:
    if isinstance(error, WeightsChanged):
        return 'To say so: the button "Accept this model\'s changed file", under More.'
    return host.weights_help()


def _retry_help() -> str:
    return (
        f"It is tried again after {RETRY_MINUTES} minutes, or when a file is put there, a setting changes "
        "or the list of models is refreshed."
    )


def _folder_state(folders: Sequence[Path]) -> Hashable:
    """What lies in the folders; unfinished downloads have names that begin with a dot."""
    entries = (entry for folder in folders if folder.is_dir() for entry in os.scandir(folder))
    return tuple(_entry_state(entry) for entry in entries if not entry.name.startswith("."))


def _entry_state(entry: os.DirEntry[str]) -> Hashable:
    try:
        state = entry.stat()
    except OSError:  # gone meanwhile, or a link to nothing
        return entry.path
    return entry.path, state.st_size, state.st_mtime_ns

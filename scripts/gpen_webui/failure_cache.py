"""Remembers a failed download, so that it is not tried again for every image of a batch."""

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
    """The message. The exception itself would keep the images in its traceback in memory."""
    failed_at: float

    def applies_to(self, request: Hashable, folders: Sequence[Path]) -> bool:
        is_recent = time.monotonic() < self.failed_at + 60 * RETRY_MINUTES
        return is_recent and self.request == request and self.folder_state == _folder_state(folders)


_last_failure: _Failure | None = None


@contextmanager
def fail_fast(request: Hashable, folders: Sequence[Path]) -> Iterator[None]:
    """Raise the last `WeightsError` at once if the request is the same and the folders have not changed.

    A `WeightsError` of the body is remembered and raised with help for this host."""
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
    """Forget the failure, because the user has changed something."""
    global _last_failure
    _last_failure = None


def _recovery_help(error: WeightsError) -> str:
    if isinstance(error, WeightsChanged):
        return 'In this host, press "Accept this model\'s changed file" under More.'
    return host.weights_help()


def _retry_help() -> str:
    return (
        f"GPEN tries again after {RETRY_MINUTES} minutes, or after you add a file, change a setting or refresh the list "
        "of models."
    )


def _folder_state(folders: Sequence[Path]) -> Hashable:
    """Return the state of the files in the folders. Names of unfinished downloads begin with a dot."""
    entries = (entry for folder in folders if folder.is_dir() for entry in os.scandir(folder))
    return tuple(_entry_state(entry) for entry in entries if not entry.name.startswith("."))


def _entry_state(entry: os.DirEntry[str]) -> Hashable:
    try:
        state = entry.stat()
    except OSError:  # deleted meanwhile, or a broken link
        return entry.path
    return entry.path, state.st_size, state.st_mtime_ns

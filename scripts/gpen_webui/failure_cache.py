"""A file that cannot be had is asked for once, not again for every picture of a batch."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpen_core import ChangedWeights, WeightsError

from . import host

MINUTES = 3


@dataclass(frozen=True)
class _Failure:
    wanted: Hashable
    seen: Hashable
    kind: type[WeightsError]
    text: str
    """What the error said. The error itself would keep the pictures of its traceback in memory."""
    at: float

    def holds(self, wanted: Hashable, folders: Sequence[Path]) -> bool:
        is_recent = time.monotonic() < self.at + 60 * MINUTES
        return is_recent and self.wanted == wanted and self.seen == _seen(folders)


_last: _Failure | None = None


@contextmanager
def asked_once(wanted: Hashable, folders: Sequence[Path]) -> Iterator[None]:
    """Raises the `WeightsError` of the last time at once where the same is wanted and nothing has changed in the folders.

    An error of the body is kept for that, and says where this host has its weights."""
    global _last
    if _last is not None and _last.holds(wanted, folders):
        raise _last.kind(_last.text)
    try:
        yield
    except WeightsError as error:
        text = f"{error}\n{_help(error)} {_not_again()}"
        _last = _Failure(wanted, _seen(folders), type(error), text, time.monotonic())
        raise type(error)(text) from error
    _last = None


def forget() -> None:
    """The user has changed something: what was missing is asked for again."""
    global _last
    _last = None


def _help(error: WeightsError) -> str:
    if isinstance(error, ChangedWeights):
        return 'To say so: the button "Accept this model\'s changed file", under More.'
    return host.where_weights_go()


def _not_again() -> str:
    return (
        f"It is tried again after {MINUTES} minutes, or when a file is put there, a setting changes or the list of models "
        "is refreshed."
    )


def _seen(folders: Sequence[Path]) -> Hashable:
    """What lies in the folders; unfinished downloads have names that begin with a dot."""
    entries = (entry for folder in folders if folder.is_dir() for entry in os.scandir(folder))
    return tuple(_state(entry) for entry in entries if not entry.name.startswith("."))


def _state(entry: os.DirEntry[str]) -> Hashable:
    try:
        state = entry.stat()
    except OSError:  # gone meanwhile, or a link to nothing
        return entry.path
    return entry.path, state.st_size, state.st_mtime_ns

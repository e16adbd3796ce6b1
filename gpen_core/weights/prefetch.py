"""All the files that one piece of work lacks, fetched before any is read: the smallest first, as one sum of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import MissingWeights
from ..progress import Progress, ProgressEvent
from .catalog import Entry
from .folders import resolve_path
from .store import Build, Store


@dataclass(frozen=True)
class WeightRequest:
    """A file by name, where it belongs, and what must be able to build from it."""

    store: Store
    name: str
    build: Build[object]


def prefetch(requests: Sequence[WeightRequest], progress: Progress) -> None:
    """Fetches what is not there. `progress` counts the bytes of all files together.

    Raises `MissingWeights` as soon as one cannot be had, and before anything is fetched where none may be: it names all."""
    missing: dict[Entry, WeightRequest] = {}
    for one in requests:
        found = resolve_path(one.name, one.store.folders)
        if isinstance(found, Entry):
            missing.setdefault(found, one)
    if not missing:
        return
    _raise_if_offline(missing)
    total = sum(map(_bytes, missing))
    done = 0
    for number, entry in enumerate(sorted(missing, key=_bytes), 1):
        one = missing[entry]
        part = f" (file {number} of {len(missing)}, {total / 1e6:.0f} MB in all)" if len(missing) > 1 else ""
        try:
            one.store.fetch(one.name, one.build, _offset_progress(progress, done, total - done - _bytes(entry), part))
        except MissingWeights as error:
            raise type(error)(str(error) + _remaining_message(sorted(missing, key=_bytes)[number:])) from error
        done += _bytes(entry)


def _remaining_message(rest: Sequence[Entry]) -> str:
    """Those that are still to come, for a message."""
    named = ", ".join(f"{entry.file} ({_bytes(entry) / 1e6:.0f} MB)" for entry in rest)
    return f"\nMissing, too: {named}." if rest else ""


def _offset_progress(progress: Progress, before: int, after: int, part: str) -> Progress:
    """One file's progress as a part of all: those before and after it have so many bytes."""

    def notify(event: ProgressEvent) -> None:
        total = before + event.total + after if event.total else None
        progress(replace(event, done=before + event.done, total=total, text=event.text + part))

    return notify


def _bytes(entry: Entry) -> int:
    return entry.bytes or entry.approximate_bytes or 0


def _raise_if_offline(missing: dict[Entry, WeightRequest]) -> None:
    """Where nothing may be fetched: each file with its place and its publisher."""
    offline = [(entry, one) for entry, one in missing.items() if one.store.options.offline]
    if not offline:
        return
    messages = [str(one.store.missing_error(entry, "downloads are switched off")) for entry, one in offline]
    if len(messages) == 1:
        raise MissingWeights(messages[0])
    size = sum(_bytes(entry) for entry, _ in offline) / 1e6
    raise MissingWeights(f"{len(messages)} files are missing, {size:.0f} MB in all:\n  " + "\n  ".join(messages))

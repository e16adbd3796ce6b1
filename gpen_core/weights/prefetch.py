"""Downloads all missing files of a job before any is read, smallest first, with one progress."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..errors import MissingWeights
from ..files.size_text import file_size_text
from ..progress import Progress, ProgressEvent
from .catalog import Entry
from .folders import resolve_path
from .store import Build, Store


@dataclass(frozen=True)
class WeightRequest:
    """A file's name, its store, and the function that builds from it."""

    store: Store
    name: str
    build: Build[object]


def prefetch(requests: Sequence[WeightRequest], progress: Progress) -> None:
    """Download the missing files. `progress` counts the bytes of all files together.

    Raises `MissingWeights` for the first file that cannot be downloaded. If downloads are off, the error names all missing
    files."""
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
        part = f" (file {number} of {len(missing)}, {_size_text(missing)} in total)" if len(missing) > 1 else ""
        try:
            one.store.fetch(one.name, one.build, _offset_progress(progress, done, total - done - _bytes(entry), part))
        except MissingWeights as error:
            raise type(error)(str(error) + _remaining_message(sorted(missing, key=_bytes)[number:])) from error
        done += _bytes(entry)


def _remaining_message(rest: Sequence[Entry]) -> str:
    """Return the part of an error message that lists the files after the failed one."""
    named = ", ".join(f"{entry.file} ({_size_text([entry])})" for entry in rest)
    return f"\nAlso missing: {named}." if rest else ""


def _offset_progress(progress: Progress, before: int, after: int, part: str) -> Progress:
    """Report the progress of one file within all files, with the bytes before and after it."""

    def notify(event: ProgressEvent) -> None:
        total = before + event.total + after if event.total else None
        progress(replace(event, done=before + event.done, total=total, text=event.text + part))

    return notify


def _bytes(entry: Entry) -> int:
    return entry.known_bytes or 0


def _size_text(entries: Collection[Entry]) -> str:
    """Return about the size of the files. Of some files, no size is known."""
    size = sum(map(_bytes, entries))
    if not size:
        return "unknown size"
    return f"{'' if all(map(_bytes, entries)) else 'more than '}{file_size_text(size)}"


def _raise_if_offline(missing: dict[Entry, WeightRequest]) -> None:
    """Raise `MissingWeights` for the files whose store is offline, with the folder and publisher of each."""
    offline = [(entry, one) for entry, one in missing.items() if one.store.options.offline]
    if not offline:
        return
    messages = [str(one.store.missing_error(entry, "downloads are switched off")) for entry, one in offline]
    if len(messages) == 1:
        raise MissingWeights(messages[0])
    size = _size_text([entry for entry, _ in offline])
    raise MissingWeights(f"{len(messages)} files are missing, {size} in total:\n  " + "\n  ".join(messages))

"""What `gpen models` says of the weights files that are there, and of those that could be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from ..pipeline.model_set import check_structure
from ..weights import digest
from ..weights.catalog import CATALOG, Entry
from ..weights.digest import PIN, PUBLISHED, Record
from ..weights.folders import find_in, weights_in
from ..weights.store import Store, pin_of
from .report_text import bytes_text


@dataclass(frozen=True)
class Line:
    """One weights file, or one that is not there."""

    name: str
    file: str
    size: str
    state: str
    where: str = ""
    is_refused: bool = False


def lines(store: Store, verify: bool = False) -> Iterator[Line]:
    """One line for each file of the catalog, then one for each other weights file in the folders.

    With `verify` each file that is there is hashed, compared and read."""
    known = set()
    for entry in CATALOG:
        path = find_in(entry.name, store.folders)
        if path is None:
            yield Line(entry.name, entry.file, _expected_size(entry), "not there")
        else:
            known.add(path)
            yield _line(store, entry.name, path, verify)
    for path in weights_in(store.folders):
        if path not in known:
            yield _line(store, "(other weights)", path, verify)


def _line(store: Store, name: str, path: Path, verify: bool) -> Line:
    state, is_refused = _verified(store, path) if verify else (_unverified(path), False)
    return Line(name, path.name, bytes_text(path.stat().st_size), state, str(path.parent), is_refused)


def _expected_size(entry: Entry) -> str:
    if entry.bytes is not None:
        return bytes_text(entry.bytes)
    return f"about {entry.about / 1e6:.0f} MB" if entry.about is not None else "unknown size"


def _unverified(path: Path) -> str:
    if pin_of(path) is not None:
        return "pinned: compared whenever it is loaded"
    try:
        record = digest.recall(path)
    except WeightsError as error:
        return str(error)
    return "not seen before: checked when it is loaded" if record is None else f"remembered: {describe(record)}"


def _verified(store: Store, path: Path) -> tuple[str, bool]:
    try:
        _, record = store.load_file(path, check_structure)
        if not record.has_digest:
            vouched = store.published_record(path, record.sha256)
            if vouched is not None:
                digest.remember(path, vouched)
                record = vouched
    except WeightsError as error:
        return f"REFUSED: {error}", True
    return f"right: {describe(record)}, SHA-256 {record.sha256}", False


def describe(record: Record) -> str:
    """How far a file is to be trusted, in words."""
    if record.checked_by == PIN:
        return f"the catalog's digest{f', converted from {record.source}' if record.source else ''}"
    if record.checked_by == PUBLISHED:
        return f"the digest published at {record.source}"
    return "its structure only, nobody vouches for it"

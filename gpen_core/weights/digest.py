"""A file's SHA-256, and what is remembered of a file that the catalog has no pin for.

The record lies beside the file, as `.NAME.gpen.json`: a change of the file is noticed by whoever reads it next.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import WeightsChanged, WeightsError
from .partial_file import acquire, remove_stale
from .weights_file import WeightsFile, open_weights

log = logging.getLogger(__name__)

PIN, PUBLISHED, STRUCTURE = "pin", "published", "structure"


@dataclass(frozen=True)
class DigestRecord:
    """What was known of a file when it was first taken."""

    sha256: str
    checked_by: str
    """`pin`: the catalog's digest; `published`: the digest that its source publishes; `structure`: tensors, names and
    shapes only."""
    source: str | None = None
    """Where it was downloaded from, or from what it was converted."""
    date: str = ""

    @property
    def is_conversion(self) -> bool:
        """Whether `source` is a file and its SHA-256, not an address."""
        return self.source is not None and is_sha256(self.source.rpartition(" ")[2])

    @property
    def has_digest(self) -> bool:
        """Whether somebody other than this machine vouches for these bytes."""
        return self.checked_by in (PIN, PUBLISHED)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content in lower-case hexadecimal digits. `WeightsError` if it cannot be read."""
    with open_weights(path) as file:
        return file.sha256()


def record_path(path: Path) -> Path:
    """Where the record of a file lies; a link's record lies beside the file that it leads to."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.gpen.json")


def load_record(path: Path) -> DigestRecord | None:
    """What is remembered of the file; `WeightsChanged` if the record itself is damaged."""
    note = record_path(path)
    try:
        content = json.loads(note.read_text("utf-8"))
        record = DigestRecord(**{name: content.get(name) for name in DigestRecord.__dataclass_fields__})
        if record.checked_by not in (PIN, PUBLISHED, STRUCTURE) or not is_sha256(record.sha256):
            raise ValueError("no digest in it")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsChanged(
            f"{note}, which remembers the digest of {path.name}, cannot be read ({error}). "
            f"The weights were not loaded. If you trust {path.name}, say so: a new record is written then."
        ) from error
    return record


def save_record(path: Path, record: DigestRecord) -> None:
    """Writes the record beside the file. Where nothing can be written there, nothing is remembered, which is logged."""
    note = record_path(path)
    dated = DigestRecord(record.sha256, record.checked_by, record.source, datetime.date.today().isoformat())
    try:
        remove_stale(note)
        part = acquire(note, None)
        try:
            with part.open_append() as append:
                append((json.dumps(asdict(dated), indent=1) + "\n").encode())
            os.replace(part.path, note)
        finally:
            part.discard()
    except OSError as error:
        log.info("The digest of %s could not be remembered: %s.", path, error)


def delete_record(path: Path) -> None:
    """Forgets the file: for whoever has just written it anew."""
    record_path(path).unlink(missing_ok=True)


def verify(file: WeightsFile, pin: str | None) -> DigestRecord:
    """Hashes the file and compares: with the pin if there is one, else with what is remembered.

    Gives what is known of it, `structure` for a file not seen before. `WeightsError` if it is not the pinned file, or has
    changed since it was remembered (`WeightsChanged`); nobody has read it then.
    """
    path, sha256 = file.path, file.sha256()
    if pin is not None:
        if sha256 != pin:
            raise WeightsError(
                f"{path} was refused before it was read: its SHA-256 is {sha256}, expected {pin}. The file is damaged or "
                "is another one. Delete or rename it and run again: it is downloaded anew."
            )
        return DigestRecord(sha256, PIN)
    try:
        known = load_record(path)
    except WeightsChanged as error:
        raise WeightsChanged(f"{error} The SHA-256 of {path.name} is {sha256}.") from error
    if known is not None and known.sha256 != sha256:
        raise WeightsChanged(
            f"{path} was refused before it was read: it has changed since it was first used here (SHA-256 {sha256}, "
            f"remembered {known.sha256}{f' of {known.date}' if known.date else ''}). If you replaced it yourself, "
            f"say so, and it is remembered anew (in {record_path(path).name} beside it); if not, delete it."
        )
    return known or DigestRecord(sha256, STRUCTURE)


def is_sha256(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")

"""Computes and verifies the SHA-256 of a file, and records it if the catalog has no pinned digest.

The record is stored next to the file as `.NAME.gpen.json`, so that every later reader notices a change.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import WeightsChanged, WeightsError
from ..files.stale_temp import MAX_NAME_BYTES, NAME_LENGTH
from .partial_file import acquire, remove_stale
from .weights_file import open_weights

log = logging.getLogger(__name__)

PIN, PUBLISHED, STRUCTURE = "pin", "published", "structure"


@dataclass(frozen=True)
class DigestRecord:
    """The digest of a file when it was first used, and how it was verified."""

    sha256: str
    checked_by: str
    """`pin`: the catalog's digest. `published`: the digest that its source publishes. `structure`: tensors, names and
    shapes only."""
    source: str | None = None
    """The URL of the download, or the file from which it was converted."""
    date: str = ""
    not_converted: str | None = None
    """Why an ONNX file could not be converted, so that this is not tried on each load."""
    not_converted_by: str | None = None
    """The version of this package that could not convert it. Another version tries again."""

    @property
    def is_conversion(self) -> bool:
        """Whether `source` is a file name with its SHA-256, not a URL."""
        return self.source is not None and is_sha256(self.source.rpartition(" ")[2])

    @property
    def has_digest(self) -> bool:
        """Whether the digest was published."""
        return self.checked_by in (PIN, PUBLISHED)


@dataclass(frozen=True)
class WeightsOrigin:
    """The file that a network's weights came from. If they were converted, it is the original file."""

    file: str
    """The name of the file."""
    sha256: str

    @classmethod
    def from_record(cls, path: Path, record: DigestRecord) -> WeightsOrigin:
        """Return the origin of the file at `path`, which has this record."""
        if record.source is None or not record.is_conversion:
            return cls(path.name, record.sha256)
        name, _, sha256 = record.source.rpartition(" ")
        return cls(name, sha256)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal digits. Raises `WeightsError` if it cannot be read."""
    with open_weights(path) as file:
        return file.sha256()


def record_path(path: Path) -> Path:
    """Return the path of a file's record. The record of a link is stored next to its target.

    For a name to which nothing can be added, it has the beginning of the name and a digest of the whole."""
    real = Path(os.path.realpath(path))
    name = f".{real.name}.gpen.json"
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = f".{real.name[:NAME_LENGTH]}.{hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]}.gpen.json"
    return real.with_name(name)


def load_record(path: Path) -> DigestRecord | None:
    """Return the file's record, or None if it has none. Raises `WeightsChanged` if the record is damaged."""
    note = record_path(path)
    try:
        content = json.loads(note.read_text("utf-8"))
        record = DigestRecord(**{name: content.get(name) for name in DigestRecord.__dataclass_fields__})
        if record.checked_by not in (PIN, PUBLISHED, STRUCTURE) or not is_sha256(record.sha256):
            raise ValueError("no digest in it")
        for name, value in vars(record).items():
            if not isinstance(value, (str, type(None))):
                raise ValueError(f"{name} is not a text")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsChanged(
            f"{path} was not loaded, because the record of its digest, {note}, cannot be read ({error}). "
            f"If you trust {path.name}, accept it, which writes a new record."
        ) from error
    return record


def save_record(path: Path, record: DigestRecord) -> None:
    """Write the record next to the file. If the folder is read-only, log that and write nothing."""
    note = record_path(path)
    dated = replace(record, date=datetime.date.today().isoformat())
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
        log.info("The digest of %s could not be saved: %s.", path, error)


def delete_record(path: Path) -> None:
    """Delete the file's record, because the file was written again."""
    record_path(path).unlink(missing_ok=True)


def verify(path: Path, sha256: str, pin: str | None) -> DigestRecord:
    """Compare the digest of a file with the pinned digest, or else with its record. Return its record.

    A file without either gets a record with `structure`. Raises `WeightsError` if the pinned digest differs, and
    `WeightsChanged` if the record differs."""
    if pin is not None:
        if sha256 != pin:
            raise WeightsError(
                f"{path} was refused and not used: its SHA-256 is {sha256}, expected {pin}. "
                "Delete or rename it and run again; it will be downloaded again."
            )
        return DigestRecord(sha256, PIN)
    try:
        known = load_record(path)
    except WeightsChanged as error:
        raise WeightsChanged(f"{error} The SHA-256 of {path.name} is {sha256}.") from error
    if known is not None and known.sha256 != sha256:
        raise WeightsChanged(
            f"{path} was refused and not used: it has changed since it was first used here (SHA-256 {sha256}, "
            f"recorded {known.sha256}{f' on {known.date}' if known.date else ''}). If you replaced it "
            "yourself, accept the new file. Otherwise delete it."
        )
    return known or DigestRecord(sha256, STRUCTURE)


def is_sha256(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")

"""What `gpen models` says of the weights files that are there, and of those that could be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from ..optional_packages import install_command
from ..pipeline.model_set import validate_checkpoint
from ..weights import digest
from ..weights.catalog import CATALOG, Entry
from ..weights.digest import PIN, PUBLISHED, DigestRecord
from ..weights.folders import find_file, iter_weights
from ..weights.onnx_runtime import RUNTIME, has_runtime
from ..weights.store import Store, pinned_digest
from .report_text import bytes_text


@dataclass(frozen=True)
class WeightsStatus:
    """One weights file, or one that is not there."""

    name: str
    file: str
    size: str
    state: str
    folder: str = ""
    is_refused: bool = False


def list_weights(store: Store, verify: bool = False) -> Iterator[WeightsStatus]:
    """One line for each file of the catalog, then one for each other weights file in the folders.

    With `verify` each file that is there is hashed, compared and read."""
    known = set()
    for entry in CATALOG:
        path = find_file(entry.name, store.folders)
        if path is None:
            yield WeightsStatus(entry.name, entry.file, _expected_size(entry), "not there")
        else:
            known.add(path)
            yield _weights_status(store, entry.name, path, verify)
    for path in iter_weights(store.folders):
        if path not in known:
            yield _weights_status(store, "(other weights)", path, verify)


def _weights_status(store: Store, name: str, path: Path, verify: bool) -> WeightsStatus:
    state, is_refused = _verify(store, path) if verify else (_describe_unverified(path), False)
    return WeightsStatus(name, path.name, bytes_text(path.stat().st_size), state, str(path.parent), is_refused)


def _expected_size(entry: Entry) -> str:
    if entry.bytes is not None:
        return bytes_text(entry.bytes)
    return f"about {entry.approximate_bytes / 1e6:.0f} MB" if entry.approximate_bytes is not None else "unknown size"


def _describe_unverified(path: Path) -> str:
    if pinned_digest(path) is not None:
        return "pinned: compared whenever it is loaded"
    try:
        record = digest.load_record(path)
    except WeightsError as error:
        return str(error)
    state = "not seen before: checked when it is loaded" if record is None else f"remembered: {describe_weights(record)}"
    return f"{state}; {describe_onnx()}" if path.suffix.lower() == ".onnx" else state


def describe_onnx() -> str:
    """What happens to an ONNX file, and what is missing for it."""
    if has_runtime():
        return "converted to .safetensors when it is first loaded"
    return f"converting it needs ONNX Runtime: {install_command(RUNTIME)}"


def _verify(store: Store, path: Path) -> tuple[str, bool]:
    try:
        _, record = store.load_file(path, validate_checkpoint)
        if not record.has_digest:
            published = store.record_from_publisher(path, record.sha256)
            if published is not None:
                digest.save_record(path, published)
                record = published
    except WeightsError as error:
        return f"REFUSED: {error}", True
    return f"right: {describe_weights(record)}, SHA-256 {record.sha256}", False


def describe_weights(record: DigestRecord) -> str:
    """How far a file is to be trusted, in words."""
    origin = f", converted from {record.source}" if record.is_conversion else ""
    if record.checked_by == PIN:
        return f"the catalog's digest{origin}"
    if record.checked_by == PUBLISHED:
        return f"a published digest{origin}" if origin else f"the digest published at {record.source}"
    return f"its structure only, nobody vouches for it{origin}"

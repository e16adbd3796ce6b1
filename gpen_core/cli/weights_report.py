"""The table of `gpen models`: downloaded weights files, and those that can be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from ..files.size_text import file_size_text
from ..optional_packages import install_command
from ..pipeline.network_loading import validate_checkpoint
from ..weights import digest
from ..weights.catalog import CATALOG, Entry
from ..weights.digest import PIN, PUBLISHED, DigestRecord
from ..weights.folders import find_file, iter_weights
from ..weights.onnx_runtime import RUNTIME, has_runtime
from ..weights.store import Store, pinned_digest
from .report_text import bytes_text


@dataclass(frozen=True)
class WeightsStatus:
    """One weights file, which may be missing."""

    name: str
    file: str
    size: str
    state: str
    folder: str = ""
    is_refused: bool = False


def list_weights(store: Store, verify: bool = False) -> Iterator[WeightsStatus]:
    """Yield one status for each file of the catalog, then one for each other weights file in the folders.

    With `verify`, the SHA-256 and the tensors of each file are checked."""
    known = set()
    for entry in CATALOG:
        path = find_file(entry.name, store.folders)
        if path is None:
            yield WeightsStatus(entry.name, entry.file, _expected_size(entry), "not downloaded")
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
    return f"about {file_size_text(entry.approximate_bytes)}" if entry.approximate_bytes is not None else "unknown size"


def _describe_unverified(path: Path) -> str:
    if pinned_digest(path) is not None:
        return "SHA-256 known: checked on every load"
    try:
        record = digest.load_record(path)
    except WeightsError as error:
        return str(error)
    state = "new: checked on first load" if record is None else f"used before: {describe_weights(record)}"
    return f"{state}; {describe_onnx()}" if path.suffix.lower() == ".onnx" else state


def describe_onnx() -> str:
    """Return how an ONNX file is used, and the package that it needs if that is missing."""
    if has_runtime():
        return "converted to .safetensors on first load, or run in ONNX Runtime"
    return f"needs ONNX Runtime to be converted: {install_command(RUNTIME)}"


def _verify(store: Store, path: Path) -> tuple[str, bool]:
    try:
        _, record = store.load_file(path, validate_checkpoint)
        if not record.has_digest:
            published = store.record_from_publisher(path, record.sha256)
            if published is not None:
                digest.save_record(path, published)
                record = published
    except WeightsError as error:
        return f"REJECTED: {error}", True
    return f"OK: {describe_weights(record)}, SHA-256 {record.sha256}", False


def describe_weights(record: DigestRecord) -> str:
    """Describe which digest a file was compared with."""
    origin = f", converted from {record.source}" if record.is_conversion else ""
    if record.checked_by == PIN:
        return f"the catalog's SHA-256{origin}"
    if record.checked_by == PUBLISHED:
        return f"a published SHA-256{origin}" if origin else f"the SHA-256 published at {record.source}"
    return f"only its structure was checked, no SHA-256 is published{origin}"

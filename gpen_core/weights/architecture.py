"""Detects which network a weights file holds, by the names of its tensors. It builds no network and reads no values."""

from __future__ import annotations

import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

from . import file_format

GPEN, RETINAFACE = "gpen", "retinaface"
# Tensor names that only this network has. GFPGAN, CodeFormer, RestoreFormer and YOLO, which share its folders, lack them.
SIGNATURE_TENSORS = {
    GPEN: ("ecd0.0.0.weight", "final_linear.0.weight", "generator.style.1.weight"),
    RETINAFACE: ("BboxHead.0.conv1x1.weight", "LandmarkHead.0.conv1x1.weight"),
}
LEARNED_CONSTANT = "generator.input.input"
"""The end of the name of GPEN's constant input. Every exporter keeps it."""
MAX_NAMES_BYTES = 1 << 20  # for all names; a network with 200 tensors needs 30 kB
STRING_OPCODES = ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE")
# What zipfile, pickletools and json raise on damaged files.
READ_ERRORS = (
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    LookupError,
    EOFError,
    RecursionError,  # deeply nested JSON
)

_cache: dict[Path, tuple[int, int, str | None]] = {}


def detect_architecture(path: Path) -> str | None:
    """Return `gpen`, `retinaface`, or None for anything else, including damaged files and files of torch before 1.6.

    The result is cached until the file's size or time changes. Thread-safe."""
    try:
        state = path.stat()
        known = _cache.get(path)
        if known is None or known[:2] != (state.st_size, state.st_mtime_ns):
            known = _cache[path] = (state.st_size, state.st_mtime_ns, _match_architecture(set(_tensor_names(path))))
        return known[2]
    except OSError:  # deleted or unreadable
        return None


def _match_architecture(names: set[str]) -> str | None:
    plain = {name.removeprefix("module.") for name in names}
    return next((kind for kind, some in SIGNATURE_TENSORS.items() if plain.issuperset(some)), None)


def _tensor_names(path: Path) -> Iterable[str]:
    with open(path, "rb") as file:
        container = file_format.file_format(file.read(file_format.HEADER_BYTES), path.stat().st_size)
    read = {"safetensors": _safetensors_names, "zip": _zip_names, "onnx": _onnx_names}.get(container)
    try:
        return read(path) if read is not None else ()
    except READ_ERRORS:
        return ()  # the error appears when the file is loaded by its name


def _safetensors_names(path: Path) -> list[str]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_NAMES_BYTES:
            return []
        header = json.loads(file.read(length))
    return list(header) if isinstance(header, dict) else []


def _onnx_names(path: Path) -> Iterable[str]:
    """Return GPEN's `SIGNATURE_TENSORS` for an export of GPEN, because exporters may rename those tensors."""
    from . import onnx_graph  # imports torch
    from .unpickler import UnsafeCheckpoint

    try:
        with open(path, "rb") as file:
            names = onnx_graph.read_graph(file, path.stat().st_size).tensors
    except UnsafeCheckpoint:
        return ()
    return SIGNATURE_TENSORS[GPEN] if any(name.endswith(LEARNED_CONSTANT) for name in names) else ()


def _zip_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
        if name is None:
            return []
        info = archive.getinfo(name)
        is_plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1  # not encrypted, as torch.save writes
        if not is_plain or info.file_size > MAX_NAMES_BYTES:
            return []
        pickled = archive.read(name)
    return [str(argument) for code, argument, _ in pickletools.genops(pickled) if code.name in STRING_OPCODES]

"""`gpen doctor --report`: one text to paste into a bug report, which names no file of the user's."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import WeightsError
from ..weights import digest
from ..weights.architecture import kind_of
from ..weights.catalog import CATALOG, find_entry
from ..weights.folders import find_in, weights_in
from . import environment
from .report_text import bytes_text, gib_text

VARIABLES = ("GPEN_", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "PYTORCH_", "OMP_NUM_THREADS", "HTTP_PROXY", "HTTPS_PROXY")
"""Beginnings of the names of what changes a run; whether it is set is said, not to what."""


def report(given_models_dir: Path | None, self_test: str) -> str:
    """Versions, devices, folders, weights with their SHA-256, and what the self-test said; nothing is downloaded.

    The user's home folder is written `~`. Weights of the catalog go by its names, others by what they are."""
    lines = [
        *environment.versions(),
        f"Python in {sys.prefix}",
        f"set: {', '.join(_set()) or 'nothing that matters'}",
        f"devices: {environment.devices()}",
        *_machine(),
        *environment.models_folder(given_models_dir, _weights),
        *environment.optional_versions(),
        f"self-test: {self_test}",
    ]
    return shortened("\n".join(lines), _homes())


def shortened(text: str, homes: tuple[str, ...]) -> str:
    """The text with each of these folders, and what lies in them, beginning with `~`; other names that begin alike stay."""
    for home in sorted((home for home in homes if len(Path(home).parts) > 1), key=len, reverse=True):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text, flags=re.IGNORECASE if os.name == "nt" else 0)
    return text


def _homes() -> tuple[str, ...]:
    try:
        home = Path.home()
    except RuntimeError:  # an account without one
        return ()
    return str(home), str(home.resolve())


def _set() -> list[str]:
    return sorted(name for name in os.environ if name.upper().startswith(VARIABLES))


def _machine() -> Iterator[str]:
    """Processor, memory and each accelerator, a line each."""
    try:
        import torch

        from ..pipeline.devices import available_devices, cpu_computes_in_bf16, host_bytes
    except (ImportError, OSError):
        return
    memory = host_bytes()
    size = "unknown memory" if memory is None else gib_text(memory)
    bf16 = "computes" if cpu_computes_in_bf16() else "does not compute"
    yield f"  cpu              {os.cpu_count()} cores, {torch.get_num_threads()} threads, {size}, {bf16} in bf16"
    for device in available_devices():
        if device.type == "cuda":
            at = torch.cuda.get_device_properties(device)
            built = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
            yield f"  {device!s:16} {at.name}, {gib_text(at.total_memory)}, {built}"


def _weights(folder: Path) -> Iterator[str]:
    known = {}
    for entry in CATALOG:
        known[entry] = found = find_in(entry.name, [folder])
        if found is not None:
            yield f"  {entry.name:22} {_described(found)}"
    missing = [entry.name for entry in CATALOG if known[entry] is None]
    if missing:
        yield f"  not there: {', '.join(missing)}"
    for path in weights_in([folder]):
        if path not in known.values():
            yield f"  {'another file':22} {kind_of(path) or 'of unknown kind'}, {_described(path)}"
    if folder.is_dir():
        yield f"  free there: {gib_text(shutil.disk_usage(folder).free)}"


def _described(path: Path) -> str:
    try:
        sha256 = digest.sha256_of(path)
    except WeightsError as error:
        sha256 = f"cannot be read: {str(error).replace(str(path), 'the file').replace(path.name, 'the file')}"
    entry = find_entry(path.name)
    pin = entry.pin_for(path.name) if entry else None
    compared = "" if pin is None else " (the catalog's)" if sha256 == pin else f" (NOT the catalog's: {pin})"
    return f"{path.suffix.lower()}, {bytes_text(path.stat().st_size)}, SHA-256 {sha256}{compared}"

"""`gpen doctor --report`: one text to paste into a bug report. It contains no name of the user's files."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import WeightsError
from ..files.path_checks import is_folder
from ..files.size_text import memory_text
from ..weights import digest
from ..weights.architecture import detect_architecture
from ..weights.catalog import find_entry, find_export
from ..weights.folders import catalog_files
from . import environment
from .report_text import bytes_text

VARIABLE_PREFIXES = (
    "GPEN_",
    "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_",
    "OMP_NUM_THREADS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
)
"""Prefixes of environment variables that affect a run. The report names those that are set, but not their values."""


def report(given_models_dir: Path | None, self_test: str) -> str:
    """Return versions, devices, folders, weights with their SHA-256, and the self-test's result. Downloads nothing.

    The home folder is written as `~`, and a models folder elsewhere is not named. Weights of the catalog have their catalog
    names, others only their architecture."""
    lines = [
        *environment.format_packages(),
        f"Python in {sys.prefix}",
        f"environment variables set: {', '.join(_set_variables()) or 'none'}",
        f"devices: {environment.format_devices()}",
        *_format_hardware(),
        *environment.format_models_dir(given_models_dir, _format_weights, _name_in_home),
        *environment.format_optional_packages(),
        f"self-test: {self_test}",
    ]
    return redact_home_dirs("\n".join(lines), _home_dirs())


def redact_home_dirs(text: str, homes: tuple[str, ...]) -> str:
    """Replace these folders, and the beginning of paths in them, by `~`. Names that only start alike are not changed."""
    for home in sorted((home for home in homes if len(Path(home).parts) > 1), key=len, reverse=True):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text, flags=re.IGNORECASE if os.name == "nt" else 0)
    return text


def _home_dirs() -> tuple[str, ...]:
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home folder
        return ()
    return str(home), str(home.resolve())


def _name_in_home(folder: Path) -> str:
    """Return the path of a folder that is in the home folder. The path of another folder is not revealed."""
    path = str(folder.absolute())
    return "not in the home folder" if redact_home_dirs(path, _home_dirs()) == path else path


def _set_variables() -> list[str]:
    return sorted(name for name in os.environ if name.upper().startswith(VARIABLE_PREFIXES))


def _format_hardware() -> Iterator[str]:
    """Yield a line for the processor with memory, and one for each GPU."""
    try:
        import torch

        from ..files.host_memory import host_memory
        from ..pipeline.devices import available_devices, cpu_supports_bf16
    except (ImportError, OSError):
        return
    memory = host_memory()
    size = "unknown memory" if memory is None else memory_text(memory)
    bf16 = "with" if cpu_supports_bf16() else "without"
    yield f"  cpu              {os.cpu_count()} cores, {torch.get_num_threads()} threads, {size}, {bf16} bf16"
    for device in available_devices():
        if device.type == "cuda":
            at = torch.cuda.get_device_properties(device)
            built = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
            yield f"  {device!s:16} {at.name}, {memory_text(at.total_memory)}, {built}"


def _format_weights(folder: Path) -> Iterator[str]:
    files, others = catalog_files(folder)
    for entry, path in files.items():
        if path is not None:
            yield f"  {entry.name:22} {_describe_file(path)}"
    missing = [entry.name for entry, path in files.items() if path is None]
    if missing:
        yield f"  not downloaded: {', '.join(missing)}"
    for path in others:
        yield f"  {'other file':22} {detect_architecture(path) or 'unknown architecture'}, {_describe_file(path)}"
    if is_folder(folder):
        yield f"  free disk space: {memory_text(shutil.disk_usage(folder).free)}"


def _describe_file(path: Path) -> str:
    try:
        sha256 = digest.file_sha256(path)
    except WeightsError as error:
        sha256 = f"cannot be read: {str(error).replace(str(path), 'the file').replace(path.name, 'the file')}"
    entry = find_entry(path.name)
    pin = entry.digest_for(path.name) if entry else None
    is_known = sha256 == pin or find_export(sha256) is not None
    compared = " (matches the catalog)" if is_known else "" if pin is None else f" (does NOT match the catalog: {pin})"
    return f"{path.suffix.lower()}, {bytes_text(path.stat().st_size)}, SHA-256 {sha256}{compared}"

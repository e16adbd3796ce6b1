"""Reads only tensors from a weights file."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of

from ..errors import WeightsError, first_line, is_out_of_memory
from . import archive, onnx_weights
from .unpickler import UnsafeCheckpoint
from .weights_file import WeightsFile, open_weights

# What torch, safetensors, zipfile and pickletools raise on damaged files.
READ_ERRORS = (
    UnsafeCheckpoint,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    pickle.UnpicklingError,
    SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    struct.error,
)
TORCH_READS_SAFELY = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10)  # CVE-2026-24747
HOW_TO_CONVERT = (
    "it is in the format that torch.save wrote before version 1.6, which old versions of torch cannot read safely. Convert "
    "it with torch 2.10 or newer in a separate environment: python -c \"import torch; torch.save(torch.load('OLD.pth', "
    "map_location='cpu', weights_only=True), 'NEW.pth')\""
)


def load(path: Path, is_pinned: bool = False) -> object:
    """Open the file and `read` it. Raises `MissingWeights` if it does not exist."""
    with open_weights(path) as file:
        return read(file, is_pinned)


def read(file: WeightsFile, is_pinned: bool, keep_onnx: bool = False, not_converted: str | None = None) -> object:
    """Read tensors, and the dicts, lists and numbers around them, onto the CPU.

    The safetensors library reads `.safetensors`, and `onnx_weights` reads `.onnx`. With `keep_onnx`, or if its weights
    cannot be converted, it returns an `OnnxModel`. `not_converted` is the reason if that is known: the conversion is then
    not tried. `archive` reads all other files, and accepts dense tensors only. torch with `weights_only=True` reads a file
    if `is_pinned` (its digest matches the catalog's) and this version has no known vulnerability or `archive` does not know
    the format.
    Raises `WeightsError` with the reason for refused and damaged files. Out-of-memory errors pass through unchanged. No
    other reader is tried, and nothing in the file is run.
    """
    path = file.path
    try:
        if path.suffix.lower() == ".safetensors":
            # `load_file` maps the file into memory: a later change of the file would change the network or crash.
            file.file.seek(0)
            return _load_safetensors(file.file.read())
        if path.suffix.lower() == ".onnx":
            return onnx_weights.read(file.file, file.size, keep_onnx, not_converted)
        if is_pinned and (TORCH_READS_SAFELY or file.file_format == "legacy"):
            return _load_with_torch(file)
        return _load_archive(file)
    except READ_ERRORS as error:
        if is_out_of_memory(error):  # not the file's fault
            raise
        raise WeightsError(
            f"{path} was refused: {_reason(error)}. Expected a file of tensors (.pth, .pt, .safetensors or .onnx). "
            "Download it again from its publisher."
        ) from error


def _load_safetensors(data: bytes) -> object:
    try:
        return dict(sorted(tensors_of(data).items()))
    except BaseException as error:
        if type(error).__name__ != "PanicException" or "null" not in str(error):
            raise
        # Its panic means that the allocation failed.
        raise MemoryError("safetensors could not allocate memory for a tensor") from error


def _load_archive(file: WeightsFile) -> object:
    reasons = {
        "legacy": HOW_TO_CONVERT,
        "safetensors": "it is a .safetensors file under another name: rename it",
        "onnx": "it is an ONNX file under another name: rename it to .onnx",
        "html": "it is a web page, not a weights file",
        "unknown": "torch.save did not write it in zip format",
    }
    reason = reasons.get(file.file_format)
    if reason is not None:
        raise UnsafeCheckpoint(reason)
    return archive.read(file.file, file.size)


def _load_with_torch(file: WeightsFile) -> object:
    file.file.seek(0)
    with warnings.catch_warnings():
        for noise in ("TypedStorage is deprecated", "Detected pickle protocol"):
            warnings.filterwarnings("ignore", noise, UserWarning)
        content: object = torch.load(file.file, map_location="cpu", weights_only=True)
    if content is None:  # A1111's replacement of torch.load returns None for refused files
        raise UnsafeCheckpoint("the host's check of weights files refused it")
    return content


def _reason(error: BaseException) -> str:
    if isinstance(error, UnsafeCheckpoint):
        return str(error)
    if isinstance(error, (pickle.UnpicklingError, RuntimeError)) and "weights_only" in str(error):
        # torch's message advises to load the file without the check. Users must not see that.
        return "torch found other objects than tensors in it"
    message = first_line(error).rstrip(".")
    return f"{type(error).__name__}{f', {message}' if message else ''}"

"""Reading a weights file as tensors and nothing else."""

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
    "it is in the format that torch.save wrote before version 1.6, which cannot be read safely by every torch. Convert it "
    "with torch 2.10 or newer, in an environment of its own: python -c \"import torch; torch.save(torch.load('OLD.pth', "
    "map_location='cpu', weights_only=True), 'NEW.pth')\""
)


def load(path: Path, is_pinned: bool = False) -> object:
    """As `read`, for a file that nobody has opened yet. Raises `MissingWeights` if there is no such file."""
    with open_weights(path) as file:
        return read(file, is_pinned)


def read(file: WeightsFile, is_pinned: bool) -> object:
    """What the file holds, on the CPU: tensors, and the dicts, lists and numbers around them.

    A `.safetensors` file is read by its library. Any other is read by `archive`, which knows nothing but dense tensors, or
    by torch with `weights_only=True` if `is_pinned` (its digest was compared with the catalog's) and this torch's reader
    has no known hole, or `archive` does not know its format. An `.onnx` file is read by `onnx_weights`.
    Raises `WeightsError` with the reason if it is refused or damaged, and what says that memory ran out as it is. There is
    no fallback to a looser reader, and nothing in a file is run.
    """
    path = file.path
    try:
        if path.suffix.lower() == ".safetensors":
            # Not `load_file`: it maps the file, and whoever changes that changes the network, or ends the process.
            file.file.seek(0)
            return _load_safetensors(file.file.read())
        if path.suffix.lower() == ".onnx":
            return onnx_weights.read(file.file, file.size)
        if is_pinned and (TORCH_READS_SAFELY or file.file_format == "legacy"):
            return _load_with_torch(file)
        return _load_archive(file)
    except READ_ERRORS as error:
        if is_out_of_memory(error):  # which the file is not to blame for
            raise
        raise WeightsError(
            f"{path} was refused: {_reason(error)}. Expected a file of tensors (.pth, .pt, .safetensors or .onnx); nothing "
            "in it was run. Download it again, or get it from its publisher."
        ) from error


def _load_safetensors(data: bytes) -> object:
    try:
        return dict(sorted(tensors_of(data).items()))
    except BaseException as error:
        if type(error).__name__ != "PanicException" or "null" not in str(error):
            raise
        raise MemoryError("safetensors could not make room for a tensor") from error  # which is how it says so


def _load_archive(file: WeightsFile) -> object:
    reasons = {
        "legacy": HOW_TO_CONVERT,
        "safetensors": "it is a .safetensors file under another name: rename it",
        "onnx": "it is an ONNX file under another name: rename it to .onnx",
        "html": "it is a web page, not a file of weights",
        "unknown": "it is no file that torch.save wrote in zip format",
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
    if content is None:  # A1111 replaces torch.load by one that returns None on refusal
        raise UnsafeCheckpoint("the host's own check of weights files refused it")
    return content


def _reason(error: BaseException) -> str:
    if isinstance(error, UnsafeCheckpoint):
        return str(error)
    if isinstance(error, (pickle.UnpicklingError, RuntimeError)) and "weights_only" in str(error):
        # torch goes on to advise loading it without the check: that advice must not reach anyone.
        return "torch found more in it than tensors"
    message = first_line(error).rstrip(".")
    return f"{type(error).__name__}{f', {message}' if message else ''}"

"""Converts a checkpoint to a `.safetensors` file, which cannot run code and loads faster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import OutputError, WeightsError, is_out_of_memory, oom_context
from . import digest
from .digest import DigestRecord
from .partial_file import acquire, remove_stale


def find_conversion(source: Path, sha256: str, folder: Path) -> Path | None:
    """Return the file that `save_safetensors` wrote into `folder` from `source` with this digest, or None."""
    target = _target(source, folder)
    if not target.is_file():
        return None
    record = digest.load_record(target)
    return target if record is not None and record.source == _describe_source(source, sha256) else None


def save_safetensors(
    source: Path, record: DigestRecord, state_dict: Mapping[str, torch.Tensor], folder: Path | None = None
) -> Path:
    """Write the tensors of `source` into its folder or into `folder`, and return the file's path.

    The file gets its name after it was read back and compared bit by bit. Its record copies `checked_by` from `record`.
    Raises `OutputError` if the file exists or cannot be written. Raises `WeightsError` and deletes the file if the
    comparison fails. Two threads must not convert the same source at once."""
    target = _target(source, folder or source.parent)
    if target.exists():
        raise OutputError(f"{target} already exists. Delete it first, or convert another file.")
    with oom_context(f"a second copy of {source}, for comparison"):
        return _save(source, target, record, state_dict)


def _target(source: Path, folder: Path) -> Path:
    return folder / source.with_suffix(".safetensors").name


def _describe_source(source: Path, sha256: str) -> str:
    return f"{source.name} {sha256}"


def _save(source: Path, target: Path, record: DigestRecord, state_dict: Mapping[str, torch.Tensor]) -> Path:
    tensors = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state_dict.items()}
    try:
        remove_stale(target)
        part = acquire(target, None)  # a new, random name, so no link can be there
        try:
            permissions = part.path.stat().st_mode & 0o777
            save_file(tensors, part.path, {"format": "pt", "source": source.name, "source_sha256": record.sha256})
            part.path.chmod(permissions)  # safetensors 0.8 replaces the file by one that only its owner can read
            if not _equal(load_file(part.path), tensors):  # Windows cannot delete a file while tensors are mapped to it
                raise WeightsError(
                    "The written file differs when it is read back, so it was deleted. Check the disk for errors."
                )
            sha256 = digest.file_sha256(part.path)
            digest.save_record(target, DigestRecord(sha256, record.checked_by, _describe_source(source, record.sha256)))
            part.commit(target)
        finally:
            part.discard()
    except (OSError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        digest.delete_record(target)
        raise OutputError(f"{target} cannot be written: {error}.") from error
    return target


def _equal(read: Mapping[str, torch.Tensor], written: Mapping[str, torch.Tensor]) -> bool:
    return read.keys() == written.keys() and all(_bits_equal(read[key], written[key]) for key in written)


def _bits_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))

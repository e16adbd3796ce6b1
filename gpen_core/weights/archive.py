"""Reads a torch.save file in zip format without torch's unpickler, for files without a known digest.

A file could run code through torch.load(weights_only=True) before torch 2.6 (CVE-2025-32434) and overwrite memory before
2.10 (CVE-2026-24747). Hosts use older versions. In the format, `NAME/data.pkl` describes the tensors, and
`NAME/data/KEY` holds the values of one storage without compression.
"""

from __future__ import annotations

import re
import struct
import zipfile
from typing import BinaryIO, cast

import torch

from .unpickler import Storage, UnsafeCheckpoint, unpickle

MAX_PICKLE_BYTES = 1 << 20  # a network with 200 tensors has 30 kB; 1000 tensors with optimizer state have 350 kB
MAX_DIRECTORY_BYTES = 4 << 20  # the list of members; each needs about 100 bytes
MAX_DIMENSIONS = 8
# All tensors together may need this many times the file's bytes, plus a fixed number of bytes.
MAX_SHARING, MIN_TENSOR_ALLOWANCE = 4, 16 << 20
METADATA_MEMBERS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
CODE_MEMBER = re.compile(r"constants\.pkl|code/.*")
STORAGE_MEMBER = re.compile(r"data/[0-9]+")


def read(file: BinaryIO, size: int) -> object:
    """Read the checkpoint of a file of `size` bytes: dicts, lists, numbers and tensors.

    Tensors that share a storage in the file share memory. Raises `UnsafeCheckpoint` with the reason. For damaged files,
    raises `zipfile.BadZipFile`, `OSError` and the errors of `unpickle`."""
    _check_directory_size(file, size)
    with zipfile.ZipFile(file) as archive:
        return _Reader(archive, size).content()


class _Reader:
    def __init__(self, archive: zipfile.ZipFile, length: int) -> None:
        self.archive = archive
        self.file_size = length
        self.members = _members(archive, length)
        self.storages: dict[str, torch.Tensor] = {}

    def content(self) -> object:
        if "data.pkl" not in self.members:
            raise UnsafeCheckpoint("it is a zip file without data.pkl, so it is not a checkpoint")
        if self.members["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise UnsafeCheckpoint(f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes")
        if "byteorder" in self.members and self.archive.read(self.members["byteorder"]) != b"little":
            raise UnsafeCheckpoint("its numbers are in big-endian order")
        content = unpickle(self.archive.read(self.members["data.pkl"]), self.tensor)
        self.check_aliasing(content)
        return content

    def check_aliasing(self, content: object) -> None:
        """Limit the bytes of all references to tensors, because callers copy or convert a tensor once per reference."""
        left, visited, claimed = [content], set[int](), 0
        while left:
            part = left.pop()
            if isinstance(part, torch.Tensor):
                claimed += part.numel() * part.dtype.itemsize
            elif isinstance(part, (dict, list, tuple)) and id(part) not in visited:  # it may contain itself
                visited.add(id(part))
                left += part.values() if isinstance(part, dict) else part
        if claimed > MAX_SHARING * self.file_size + MIN_TENSOR_ALLOWANCE:
            raise UnsafeCheckpoint(f"its tensors would need {claimed:,} bytes, but the file has {self.file_size:,}")

    def tensor(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
        """Return a dense view of a storage. All elements are inside it, and there are no more than in the storage."""
        if len(size) > MAX_DIMENSIONS:
            raise UnsafeCheckpoint(f"a tensor in it has {len(size)} dimensions")
        numel, last = 1, offset
        for length, step in zip(size, stride):
            numel *= length
            last += (length - 1) * step
        if (numel and last >= storage.numel) or numel > storage.numel or offset > storage.numel:
            raise UnsafeCheckpoint(f"a tensor of size {list(size)} in it exceeds its storage of {storage.numel} values")
        return self.storage_tensor(storage).as_strided(size, stride, offset)

    def storage_tensor(self, storage: Storage) -> torch.Tensor:
        if storage.key not in self.storages:
            self.storages[storage.key] = self.load(storage)
        known = self.storages[storage.key]
        if known.dtype != storage.dtype or known.numel() != storage.numel:
            raise UnsafeCheckpoint(f"its storage {storage.key} is described in two ways")
        return known

    def load(self, storage: Storage) -> torch.Tensor:
        """Read the values of one storage. Raises `UnsafeCheckpoint` if the archive has more or fewer of them."""
        info = self.members.get(f"data/{storage.key}")
        expected = storage.numel * storage.dtype.itemsize
        if info is None or info.file_size != expected:
            found = "is missing" if info is None else f"has {info.file_size:,} bytes"
            raise UnsafeCheckpoint(f"its storage {storage.key[:20]!r} {found}, expected {expected:,} bytes")
        numbers = torch.empty(storage.numel, dtype=storage.dtype, device="cpu")
        if expected:
            with cast(zipfile.ZipExtFile, self.archive.open(info)) as stored:
                view: memoryview = numbers.view(torch.uint8).numpy().data
                filled = 0
                while filled < expected:
                    count = stored.readinto(view[filled : filled + (1 << 20)])
                    if not count:
                        raise UnsafeCheckpoint(f"its storage {storage.key} ends too early")
                    filled += count
        return numbers


def _check_directory_size(file: BinaryIO, size: int) -> None:
    """Check the directory before zipfile reads it: a million members need seconds and half a gigabyte.

    The two records at the end of a zip file have the sizes at fixed offsets (APPNOTE 4.3.14 and 4.3.16)."""
    file.seek(max(0, size - (1 << 16) - 128))
    tail = file.read() + bytes(48)
    records = ((b"PK\5\6", "<L", 12), (b"PK\6\6", "<Q", 40))
    for signature, form, place in records:
        for match in re.finditer(re.escape(signature), tail):
            (listed,) = struct.unpack_from(form, tail, match.start() + place)
            if listed > MAX_DIRECTORY_BYTES:
                raise UnsafeCheckpoint(f"the list of its members has {listed:,} bytes")


def _members(archive: zipfile.ZipFile, length: int) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's members by name without the first folder.

    Each has a known name, is uncompressed and is inside the file."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    top = infos[0].filename.partition("/")[0] if infos else ""
    found: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for info in infos:
        folder, _, name = info.filename.partition("/")
        if CODE_MEMBER.fullmatch(name):
            raise UnsafeCheckpoint("it is a TorchScript archive, which contains code")
        is_known = name == "data.pkl" or name in METADATA_MEMBERS or STORAGE_MEMBER.fullmatch(name)
        if not is_known or folder != top or folder in ("", ".", ".."):
            raise UnsafeCheckpoint(f"it contains {info.filename[:100]!r}, which no checkpoint needs")
        if name in found:
            raise UnsafeCheckpoint(f"it contains {name} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise UnsafeCheckpoint(f"{info.filename[:100]!r} in it is compressed or encrypted, which torch.save never does")
        if info.header_offset < end:
            raise UnsafeCheckpoint(f"{info.filename[:100]!r} in it overlaps another member")
        end = info.header_offset + info.file_size
        found[name] = info
    if end > length:
        raise UnsafeCheckpoint("its members claim to be larger than the whole file")
    return found

"""Opens a weights file once, so that the file that is hashed is the one that is read, even if its path is replaced."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ..errors import MissingWeights, WeightsError
from ..files.regular_file import NotARegularFile, open_regular_file
from . import file_format

MAX_WEIGHTS_BYTES = 8 << 30  # ten times the largest weights of the catalog
CHUNK_SIZE = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """An open regular file with its status at that time."""

    path: Path
    file: BinaryIO
    status: os.stat_result

    @property
    def size(self) -> int:
        return self.status.st_size

    @property
    def file_format(self) -> str:
        """See `file_format.file_format`."""
        self.file.seek(0)
        return file_format.file_format(self.file.read(file_format.HEADER_BYTES), self.size)

    def sha256(self) -> str:
        """Return the SHA-256 in lower-case hexadecimal digits. Raises `WeightsError` if the file cannot be read."""
        digest = hashlib.sha256()
        try:
            self.file.seek(0)
            while chunk := self.file.read(CHUNK_SIZE):
                digest.update(chunk)
        except OSError as error:
            raise WeightsError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        return digest.hexdigest()

    def read_bytes(self) -> bytes:
        """Return the whole content. Raises `WeightsError` if the file cannot be read."""
        try:
            self.file.seek(0)
            return self.file.read()
        except OSError as error:
            raise WeightsError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def in_memory(self, content: bytes) -> WeightsFile:
        """Return the same file with this content, which later changes of the file do not reach."""
        return replace(self, file=io.BytesIO(content))

    def raise_if_changed(self, sha256: str) -> None:
        """Raise `WeightsError` if the content changed since it had this digest.

        The file is hashed again only if its status changed. Renaming or deleting it changes the status, but not the
        content."""
        now = os.fstat(self.file.fileno())
        states = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in (self.status, now)]
        if states[0] != states[1] and self.sha256() != sha256:
            raise WeightsError(f"{self.path} changed while it was read and was not loaded. Run again.")


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[WeightsFile]:
    """Open a file, or the target of a link.

    Raises `MissingWeights` if it does not exist or is not a regular file. Raises `WeightsError` if it cannot be opened or
    has more than `MAX_WEIGHTS_BYTES`, because hashing needs a second or more per gigabyte."""
    try:
        file, status = open_regular_file(path, MAX_WEIGHTS_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingWeights(f"{path} does not exist.") from error
    except (IsADirectoryError, NotARegularFile) as error:
        raise MissingWeights(f"{path} cannot be used: {error.strerror}.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    with file:
        yield WeightsFile(path, file, status)

"""A weights file, opened once: what is hashed is what is read, whatever gets its name meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import MissingWeights, WeightsError
from ..files.regular_file import NotARegularFile, open_regular_file
from . import file_format

MAX_WEIGHTS_BYTES = 8 << 30  # ten times the largest weights of the catalog
CHUNK_SIZE = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """An open regular file, and what it was when it was opened."""

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
        """The SHA-256 of the content in lower-case hexadecimal digits. `WeightsError` if it cannot be read."""
        digest = hashlib.sha256()
        try:
            self.file.seek(0)
            while chunk := self.file.read(CHUNK_SIZE):
                digest.update(chunk)
        except OSError as error:
            raise WeightsError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        return digest.hexdigest()

    def raise_if_changed(self, sha256: str) -> None:
        """`WeightsError` if its content is not any more what it was when it had this digest.

        Hashed again only where the system says that something happened to it; it may have lost its name, which is none."""
        now = os.fstat(self.file.fileno())
        states = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in (self.status, now)]
        if states[0] != states[1] and self.sha256() != sha256:
            raise WeightsError(f"{self.path} was changed while it was read. Nothing was loaded; run again.")


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[WeightsFile]:
    """Opens the file that `path` is or leads to as a link.

    Raises `MissingWeights` if it does not exist or is not a regular file. Raises `WeightsError` if it cannot be opened or
    has more than `MAX_WEIGHTS_BYTES`, before it is hashed: that takes a second per gigabyte or more."""
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

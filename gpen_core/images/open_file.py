"""A picture's file, opened if it is a regular one and not too long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..files.regular_file import open_regular

LARGEST_FILE = 2 << 30  # bytes: more than MAX_PIXELS of 16 bits with alpha take without compression


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The open file and its length in bytes. `InputError` for what is no regular file, too long, or not to be read."""
    try:
        file, status = open_regular(path)
        with file:
            if status.st_size > LARGEST_FILE:
                raise InputError(f"{path} has {status.st_size:,} bytes; pictures have at most {LARGEST_FILE:,}.")
            yield file, status.st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error

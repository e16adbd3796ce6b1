"""Opening image files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..files.regular_file import open_regular_file

MAX_IMAGE_BYTES = 2 << 30  # more than MAX_PIXELS need uncompressed in 16 bits with alpha


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open the file and yield it with its size in bytes. Raises `InputError` if it cannot be read, is not a regular file
    or has more than `MAX_IMAGE_BYTES`."""
    try:
        file, status = open_regular_file(path, MAX_IMAGE_BYTES)
        with file:
            yield file, status.st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error

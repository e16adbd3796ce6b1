"""A picture's file, opened without waiting for pipes and refused where it is no regular file or too long."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

LARGEST_FILE = 2 << 30  # bytes: more than MAX_PIXELS of 16 bits with alpha take without compression
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The open file and its length in bytes. `InputError` for what is no regular file, too long, or not to be read."""
    try:
        if path.is_dir():  # which Windows does not open at all
            raise InputError(f"{path} cannot be read: it is a folder.")
        with open(os.open(path, FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device read without end
                raise InputError(f"{path} cannot be read: it is no regular file.")
            if status.st_size > LARGEST_FILE:
                raise InputError(f"{path} has {status.st_size:,} bytes; pictures have at most {LARGEST_FILE:,}.")
            yield file, status.st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error

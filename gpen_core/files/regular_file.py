"""Open regular files for reading, up to a size limit and without blocking on pipes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

BINARY = getattr(os, "O_BINARY", 0)
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # does not follow symbolic links
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # does not wait for the other end of a pipe

INVALID_NAME = "no file can have such a name"  # it contains NUL or an unpaired surrogate


class NotARegularFile(OSError):
    """The path is a pipe, which may never send data, or a device, which may never end."""


class FileTooLarge(OSError):
    """The file has `size` bytes, more than the limit `max_size`."""

    def __init__(self, size: int, max_size: int) -> None:
        super().__init__(errno.EFBIG, f"it has {size:,} bytes, and the limit is {max_size:,}")


def open_regular_file(path: Path, max_size: int | None = None) -> tuple[BinaryIO, os.stat_result]:
    """Open a file, or the target of a link, for reading. Returns the file and its status. The caller closes the file.

    Every error is an `OSError` whose `strerror` gives the reason in plain words: `FileNotFoundError`,
    `IsADirectoryError`, `NotARegularFile`, `FileTooLarge` for more than `max_size` bytes, and others."""
    if path.is_dir():  # Windows reports another reason for folders
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_WAIT | BINARY)
    except ValueError as error:
        raise OSError(errno.EINVAL, INVALID_NAME) from error
    file = open(descriptor, "rb")  # noqa: SIM115  the caller closes it
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotARegularFile(errno.EINVAL, "it is not a regular file")
        if max_size is not None and status.st_size > max_size:
            raise FileTooLarge(status.st_size, max_size)
    except OSError:
        file.close()
        raise
    return file, status

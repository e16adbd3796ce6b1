"""Files that are read whole: opened once, never waited for, and regular ones only."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# Without waiting, as for a pipe.
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


NO_NAME = "no file can have such a name"  # one with NUL, or with halves of characters


class NotRegular(OSError):
    """A pipe, which would be waited for, or a device, which would be read without end."""


def open_regular(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """The open file, which is the caller's to close, and what it is. Raises `OSError`, whose `strerror` says why not;
    `IsADirectoryError` for a folder, also on Windows, which does not open one; and `NotRegular`."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    try:
        descriptor = os.open(path, FLAGS)
    except ValueError as error:
        raise OSError(errno.EINVAL, NO_NAME) from error
    file = open(descriptor, "rb")  # noqa: SIM115  the caller's to close
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise NotRegular(errno.EINVAL, "it is no regular file")
    return file, status

"""Lock files whose names others can predict."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from filelock import FileLock


def file_lock(path: Path) -> FileLock:
    """A lock whose file is `path`. Raises `OSError` for a link: filelock before 3.20.1 empties the file that it leads to."""
    if is_link(path):
        raise FileExistsError(errno.EEXIST, f"{path.name} is a link, not a lock file: delete it", str(path))
    return FileLock(path)


def is_link(path: Path) -> bool:
    """Whether it is a symbolic link or, on Windows, a junction."""
    if not os.path.lexists(path):
        return False
    tag = getattr(path.lstat(), "st_reparse_tag", 0)
    return path.is_symlink() or tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)

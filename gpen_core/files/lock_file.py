"""Lock files with predictable names, protected against links."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from filelock import FileLock


def file_lock(path: Path) -> FileLock:
    """Return a lock on the file `path`. Raises `OSError` for a link, because filelock before 3.20.1 truncates its target."""
    if is_link(path):
        raise FileExistsError(errno.EEXIST, f"{path.name} is a link, not a lock file: delete it", str(path))
    return FileLock(path)


def is_link(path: Path) -> bool:
    """Whether `path` is a symbolic link or, on Windows, a junction."""
    if not os.path.lexists(path):
        return False
    tag = getattr(path.lstat(), "st_reparse_tag", 0)
    return path.is_symlink() or tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)

"""Lock files with predictable names, protected against links."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from filelock import FileLock

from .regular_file import NO_FOLLOW


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


if sys.platform == "win32":

    def has_locks(path: Path) -> bool:
        """Whether the file system can lock the file `path`."""
        return True

else:

    def has_locks(path: Path) -> bool:
        """Whether the file system can lock the file `path`, which is created if it is missing.

        Some network file systems cannot. Then `FileLock.acquire` waits forever or raises an error, depending on the version
        of filelock. Raises `OSError` if the file cannot be opened."""
        import fcntl

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)  # another process has the lock
        finally:
            os.close(descriptor)
        return True

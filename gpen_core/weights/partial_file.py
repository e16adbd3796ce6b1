"""Unfinished downloads in the folder of their target.

Their names contain a key for the exact content, so that two files are never mixed (see `files.stale_temp`). A process
acquires an unfinished download by renaming it. Renaming works where locks fail: some network file systems grant a lock to
every process. The next run resumes the download of a killed process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from ..files import stale_temp
from ..files.regular_file import BINARY, NO_FOLLOW
from ..files.stale_temp import ANY_KEY, create_empty, stale_files, temp_name, unlocked_name

MAX_IDLE = 600.0  # seconds without a new byte; a running process writes more often


class PartialFile:
    """An unfinished file that this process owns and appends to. Writes are unbuffered, so a kill loses no byte."""

    def __init__(self, path: Path, unlocked: Path | None) -> None:
        self.path = path
        self.unlocked = unlocked
        """The path of the file while no process owns it; None if the download cannot be resumed."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @contextlib.contextmanager
    def open_append(self) -> Iterator[Callable[[bytes], None]]:
        """Open the file and yield a function that appends bytes."""
        # Mode "ab" would create a deleted file again. Links in its place are not followed.
        with open(os.open(self.path, os.O_RDWR | NO_FOLLOW | BINARY), "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)

            def append(data: bytes) -> None:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]

            yield append

    def truncate(self) -> None:
        """Replace the file with a new, empty one, because another process may still write to the old one."""
        self.discard()
        create_empty(self.path)

    def discard(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Release the file for the next run, or delete it if it cannot be resumed."""
        if self.unlocked is None or not self.path.exists() or not self.size:
            self.discard()
        else:
            os.replace(self.path, self.unlocked)

    def commit(self, target: Path) -> None:
        """Flush the file to the disk, then rename it to `target`."""
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        if os.name == "posix":
            with contextlib.suppress(OSError):  # some network file systems cannot sync folders
                folder = os.open(target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)


def acquire(target: Path, identity: str | None) -> PartialFile:
    """Acquire the largest unfinished download with this `identity`, or a new empty file. None always gives a new file."""
    key = hashlib.sha256(identity.encode()).hexdigest()[:16] if identity else secrets.token_hex(8)
    unlocked = target.with_name(unlocked_name(target.name, key)) if identity else None
    acquired = PartialFile(target.with_name(temp_name(target.name, key)), unlocked)
    for found in sorted(stale_files(target, MAX_IDLE, key), key=_size, reverse=True):
        with contextlib.suppress(OSError):  # another process was faster, or still writes (Windows)
            os.utime(found)  # before the renaming, or the old file would look stale to others until its first new byte
            os.rename(found, acquired.path)
            return acquired
    create_empty(acquired.path)
    return acquired


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process was faster
        return 0


def remove_stale(target: Path) -> None:
    """Delete all unfinished downloads of `target` that no process uses."""
    stale_temp.remove_stale(target, MAX_IDLE, ANY_KEY)

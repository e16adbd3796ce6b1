"""Unfinished downloads, in the folder of the file that they become.

Their names have a key for the exact content, so that two files are never mixed (see `files.stale_temp`). A process
acquires an unfinished download by renaming it, because renaming works where locks do not: some network file systems grant
a lock to everyone. A download that a killed process left behind is continued.
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

MAX_IDLE = 600.0  # seconds without a byte after which no living process writes to a download


class PartialFile:
    """An unfinished file that this process owns and that grows from its end. The system gets every byte at once, so that a
    kill loses none of them."""

    def __init__(self, path: Path, unlocked: Path | None) -> None:
        self.path = path
        self.unlocked = unlocked
        """Its path while no process owns it; None for a file that cannot be continued."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @contextlib.contextmanager
    def open_append(self) -> Iterator[Callable[[bytes], None]]:
        """Gives a function that appends bytes to the file."""
        # Mode "ab" would create a file that is gone. A link, which somebody may have put in its place, is not followed.
        with open(os.open(self.path, os.O_RDWR | NO_FOLLOW | BINARY), "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)

            def append(data: bytes) -> None:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]

            yield append

    def truncate(self) -> None:
        """Starts again with a new, empty file: another process may still write to the old one."""
        self.discard()
        create_empty(self.path)

    def discard(self) -> None:
        """Deletes the file."""
        self.path.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Leaves the file to the next run, or deletes it where nothing can be continued."""
        if self.unlocked is None or not self.path.exists() or not self.size:
            self.discard()
        else:
            os.replace(self.path, self.unlocked)

    def commit(self, target: Path) -> None:
        """Writes everything to the disk, then gives the file its final name in one step."""
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        if os.name == "posix":
            with contextlib.suppress(OSError):  # some network file systems cannot; the file has its name all the same
                folder = os.open(target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)


def acquire(target: Path, identity: str | None) -> PartialFile:
    """The largest unfinished download of the content that `identity` names, or a new empty file. With `identity` None the
    file is always new."""
    key = hashlib.sha256(identity.encode()).hexdigest()[:16] if identity else secrets.token_hex(8)
    unlocked = target.with_name(unlocked_name(target.name, key)) if identity else None
    acquired = PartialFile(target.with_name(temp_name(target.name, key)), unlocked)
    for found in sorted(stale_files(target, MAX_IDLE, key), key=_size, reverse=True):
        with contextlib.suppress(OSError):  # another process was faster, or (Windows) is still writing
            os.utime(found)  # first: else an old file looks stale to others from its renaming to its first new byte
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
    """Deletes every unfinished download of `target` that no process works on."""
    stale_temp.remove_stale(target, MAX_IDLE, ANY_KEY)

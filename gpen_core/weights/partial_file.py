"""Unfinished downloads, beside the file that they are to become.

`.NAME.KEY.part` is free to be continued; KEY stands for the exact content, so that two files are never mixed.
`.NAME.KEY.HOST-PID-RANDOM.part` is claimed by one process: claiming is renaming, which works where locks do not (some
network file systems grant them to everyone). What a killed process has left behind is adopted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..files.process_id import host, owner, runs

NO_LINK, BINARY = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_BINARY", 0)
ABANDONED = 600.0  # seconds without a byte after which no living process writes to a file


class Partial:
    """A claimed file that grows from its end. Every byte is handed to the system at once: a kill loses none of them."""

    def __init__(self, path: Path, free: Path | None) -> None:
        self.path = path
        self.free = free
        """What it is called while nobody works on it; None for one that could not be continued."""

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Gives a function that adds to the file's end."""
        # Not "ab", which would make it anew if it were gone; nor through a link, which somebody may have put in its place.
        with open(os.open(self.path, os.O_RDWR | NO_LINK | BINARY), "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)

            def append(data: bytes) -> None:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]

            yield append

    def restart(self) -> None:
        """From the first byte, in a new file: somebody may still be writing to the old one."""
        self.discard()
        _make(self.path)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """For the next run."""
        if self.free is None or not self.path.exists() or not self.size:
            self.discard()
        else:
            os.replace(self.path, self.free)

    def finish(self, target: Path) -> None:
        """On disk for good, then under its final name in one step."""
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        if os.name == "posix":
            with contextlib.suppress(OSError):  # some network file systems cannot; it has its name all the same
                folder = os.open(target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)


def claim(target: Path, identity: str | None) -> Partial:
    """What was fetched already of the content that `identity` names, else an empty file; nothing where it is None."""
    key = hashlib.sha256(identity.encode()).hexdigest()[:16] if identity else secrets.token_hex(8)
    free = target.with_name(f".{target.name}.{key}.part")
    mine = Partial(
        target.with_name(f".{target.name}.{key}.{owner()}-{secrets.token_hex(4)}.part"), free if identity else None
    )
    for found in sorted(_left_behind(target, key), key=_size, reverse=True):
        with contextlib.suppress(OSError):  # somebody else was faster, or (Windows) is still writing
            os.utime(found)  # before it is ours: an old one that was just claimed would look abandoned until its first byte
            os.rename(found, mine.path)
            return mine
    _make(mine.path)
    return mine


def _make(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | NO_LINK | BINARY, 0o666))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # somebody else was faster
        return 0


def tidy(target: Path) -> None:
    """Deletes every unfinished download of the file that no living process works on."""
    for path in _left_behind(target, None):
        with contextlib.suppress(OSError):
            path.unlink()


def _left_behind(target: Path, key: str | None) -> Iterator[Path]:
    pattern = re.compile(
        rf"\.{re.escape(target.name)}\.{key or '[0-9a-f]{16}'}(?:\.(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{{8}})?\.part"
    )
    for path in list(target.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None or path.is_symlink():  # a link is none of ours: what it leads to would be written to
            continue
        if not (match["host"] and _may_be_at_work(path, match)):
            yield path


def _may_be_at_work(path: Path, match: re.Match[str]) -> bool:
    try:
        idle = time.time() - path.stat().st_mtime
    except OSError:
        return True
    if idle >= ABANDONED:
        return False
    # On Windows an open file cannot be renamed, so that need not be asked.
    return match["host"] != host() or (os.name == "posix" and runs(int(match["pid"])))

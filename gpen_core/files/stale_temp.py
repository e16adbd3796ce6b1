"""Unfinished files: their names, and the removal of those that a crashed process left behind.

An unfinished file is in the same folder as its target and is called `.NAME.HOST-PID-RANDOM.part`. NAME is the target's
name, shortened. HOST and PID name the process that owns the file. A file may be continued by another process if its name
also has a KEY for its content: `.NAME.KEY.HOST-PID-RANDOM.part`. Without an owner, `.NAME.KEY.part`, it is unlocked: the
next process may take it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import stat
import time
from pathlib import Path

from .process_id import current_process, hostname, process_exists
from .regular_file import BINARY, NO_FOLLOW

NAME_LENGTH = 40  # characters of the target's name: the whole name then fits where names may have 255 bytes
ANY_KEY = "[0-9a-f]{16}"
DAY = 86_400.0  # seconds


def temp_name(name: str, key: str = "") -> str:
    """A new name for the unfinished file of a target called `name`. Nobody can predict it.

    `key`: 16 hexadecimal digits that stand for the content, or empty for a file that nobody else continues."""
    return f"{_stem(name, key)}.{current_process()}-{secrets.token_hex(6)}.part"


def unlocked_name(name: str, key: str) -> str:
    """The name of the unfinished file with that content while no process owns it."""
    return f"{_stem(name, key)}.part"


def _stem(name: str, key: str) -> str:
    return f".{name[:NAME_LENGTH]}{key and '.' + key}"


def create_empty(path: Path) -> None:
    """Creates a file that did not exist, with the permissions of new files. The system applies the umask, because reading
    it means to set it for all threads. Raises `FileExistsError` for a file or a link of that name."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | NO_FOLLOW | BINARY, 0o666))


def stale_files(target: Path, max_age: float, key: str = "", *, is_listed_once: bool = False) -> list[Path]:
    """The unfinished files of `target` that no process works on. They may be removed or continued.

    A file is stale if it is unlocked, if its owner ran on this host and does not exist any more, or if nobody wrote to it
    for `max_age` seconds. The age counts for owners on this host, too: the system reuses process numbers.

    `key`: only files for this content (`ANY_KEY`: for any), or without a key if empty. With `is_listed_once` the folder is
    listed once per process: what processes leave behind later is not found."""
    stem = rf"\.{re.escape(target.name[:NAME_LENGTH])}" + (rf"\.{key}" if key else "")
    owner = r"\.(?P<host>[A-Za-z0-9_]+)-(?P<pid>\d{1,10})-[0-9a-f]{12}"
    pattern = re.compile(rf"{stem}(?:{owner}){'?' if key else ''}\.part")
    names = (_listed_once if is_listed_once else _temp_files_in)(target.parent)
    found = ((target.with_name(match[0]), match) for match in map(pattern.fullmatch, names) if match)
    return [path for path, match in found if _is_stale(path, match, max_age)]


def _is_stale(path: Path, match: re.Match[str], max_age: float) -> bool:
    try:
        status = path.lstat()
    except OSError:  # another process was faster
        return False
    if not stat.S_ISREG(status.st_mode):  # a link or a folder is never ours
        return False
    is_unlocked = match["host"] is None
    is_gone = match["host"] == hostname() and not process_exists(int(match["pid"]))
    return is_unlocked or is_gone or time.time() - status.st_mtime > max_age


def _temp_files_in(folder: Path) -> tuple[str, ...]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  a large folder takes long to list as Paths
    except OSError:  # it may not be listed
        return ()
    return tuple(name for name in names if name.startswith(".") and name.endswith(".part"))


_listed_once = functools.lru_cache(maxsize=64)(_temp_files_in)


def remove_stale(target: Path, max_age: float, key: str = "", *, is_listed_once: bool = False) -> None:
    """Deletes the `stale_files` of `target` as far as this process may."""
    for path in stale_files(target, max_age, key, is_listed_once=is_listed_once):
        with contextlib.suppress(OSError):
            path.unlink()

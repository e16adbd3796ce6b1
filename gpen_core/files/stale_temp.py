"""Names of temporary files, and removal of those that a crashed process left behind.

A temporary file is in the same folder as its target and is called `.NAME.HOST-PID-RANDOM.part`. NAME is the target's name,
shortened. HOST and PID identify the process that owns the file. If the name also has a KEY for the content,
`.NAME.KEY.HOST-PID-RANDOM.part`, another process can resume the file. A file without an owner, `.NAME.KEY.part`, is
unlocked: the next process can use it.
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

MAX_NAME_BYTES = 255  # of a file's name; the limit of common file systems
NAME_LENGTH = 40  # characters of the target's name, so that the whole name has at most that many bytes
ANY_KEY = "[0-9a-f]{16}"
DAY = 86_400.0  # seconds


def temp_name(name: str, key: str = "") -> str:
    """Return a new, unpredictable name for a temporary file of the target `name`.

    `key`: 16 hexadecimal digits that identify the content, or empty for a file that no other process can resume."""
    return f"{_stem(name, key)}.{current_process()}-{secrets.token_hex(6)}.part"


def unlocked_name(name: str, key: str) -> str:
    """The name of the temporary file with that content while no process owns it."""
    return f"{_stem(name, key)}.part"


def _stem(name: str, key: str) -> str:
    return f".{name[:NAME_LENGTH]}{key and '.' + key}"


def create_empty(path: Path) -> None:
    """Create a new empty file with the default permissions.

    The system applies the umask, because a process can read it only by changing it for all threads. Raises
    `FileExistsError` if a file or link of that name exists."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | NO_FOLLOW | BINARY, 0o666))


def stale_files(target: Path, max_age: float, key: str = "", *, is_listed_once: bool = False) -> list[Path]:
    """Return the temporary files of `target` that no process uses. They can be removed or resumed.

    A file is stale if it is unlocked, if its owner ran on this host and has ended, or if it was not written to for
    `max_age` seconds. The age also counts for owners on this host, because the system reuses process IDs.

    `key`: only files with this content (`ANY_KEY`: with any), or without a key if empty. With `is_listed_once` the folder
    is listed once per process, so files that appear later are not found."""
    stem = rf"\.{re.escape(target.name[:NAME_LENGTH])}" + (rf"\.{key}" if key else "")
    owner = r"\.(?P<host>[A-Za-z0-9_]+)-(?P<pid>\d{1,10})-[0-9a-f]{12}"
    pattern = re.compile(rf"{stem}(?:{owner}){'?' if key else ''}\.part")
    names = (_listed_once if is_listed_once else _temp_files_in)(target.parent)
    found = ((target.with_name(match[0]), match) for match in map(pattern.fullmatch, names) if match)
    return [path for path, match in found if _is_stale(path, match, max_age)]


def _is_stale(path: Path, match: re.Match[str], max_age: float) -> bool:
    try:
        status = path.lstat()
    except OSError:  # another process removed it first
        return False
    if not stat.S_ISREG(status.st_mode):  # we never create links or folders
        return False
    is_unlocked = match["host"] is None
    is_gone = match["host"] == hostname() and not process_exists(int(match["pid"]))
    return is_unlocked or is_gone or time.time() - status.st_mtime > max_age


def _temp_files_in(folder: Path) -> tuple[str, ...]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  Path objects are slow for large folders
    except OSError:  # no permission to list it
        return ()
    return tuple(name for name in names if name.startswith(".") and name.endswith(".part"))


_listed_once = functools.lru_cache(maxsize=64)(_temp_files_in)


def remove_stale(target: Path, max_age: float, key: str = "", *, is_listed_once: bool = False) -> None:
    """Delete the `stale_files` of `target`, as far as this process is permitted to."""
    for path in stale_files(target, max_age, key, is_listed_once=is_listed_once):
        with contextlib.suppress(OSError):
            path.unlink()

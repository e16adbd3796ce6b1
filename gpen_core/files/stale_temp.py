"""What killed processes have left of files in the making: `.NAME.HOST-PID-RANDOM.part`, NAME cut where it is long."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import stat
import time
from pathlib import Path

from .process_id import host, owner, runs

NAMED = 40  # characters of the name: with the rest they fit where names are as long as they may be
ABANDONED = 86400.0  # seconds after which nobody works on a file any more, whoever it was


def new_name(target: Path) -> Path:
    """A name beside `target` that nobody can have foreseen."""
    return target.with_name(f".{target.name[:NAMED]}.{owner()}-{secrets.token_hex(6)}.part")


def tidy(target: Path) -> None:
    """Deletes what was begun under that name by processes of this machine that are gone, or a day ago by any."""
    named = re.compile(
        rf"\.{re.escape(target.name[:NAMED])}\.(?:(?P<host>[A-Za-z0-9_.]+)-(?P<pid>\d{{1,10}})-)?[0-9a-f]{{12}}\.part"
    )
    for match in filter(None, map(named.fullmatch, _parts_in(target.parent))):
        part = target.with_name(match[0])
        with contextlib.suppress(OSError):  # somebody else was faster, or it may not be deleted
            if _is_abandoned(part, match):
                part.unlink()


@functools.lru_cache(maxsize=64)
def _parts_in(folder: Path) -> tuple[str, ...]:
    """Looked for once: else each picture of a large folder would cost a look at all of them."""
    try:
        with os.scandir(folder) as entries:
            return tuple(e.name for e in entries if e.name.startswith(".") and e.name.endswith(".part"))
    except OSError:  # it may not be listed
        return ()


def _is_abandoned(part: Path, match: re.Match[str]) -> bool:
    status = part.lstat()
    if not stat.S_ISREG(status.st_mode):  # a link is none of ours
        return False
    is_gone = match["host"] == host() and not runs(int(match["pid"]))
    return is_gone or time.time() - status.st_mtime > ABANDONED

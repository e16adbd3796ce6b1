"""Which process a file in the making belongs to: its name says so, as locks do not work everywhere."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path


def host() -> str:
    """This machine; in a container also its number, as a process's number means something only in there."""
    name = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())[:40]
    with contextlib.suppress(OSError):  # not Linux
        name += "." + re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    return name


def owner() -> str:
    """This process, in letters that every file system takes."""
    return f"{host()}-{os.getpid()}"


def runs(pid: int) -> bool:
    """Whether a process of this number runs here. On Windows it may: to ask would end it."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True

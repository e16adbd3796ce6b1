"""How much memory this machine has."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

HOST_MEMORY_FRACTION = 0.5  # of the machine's memory that pixels may take without being asked: there are others


def host_memory(cgroup_limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """The memory of this machine, or of the container that this runs in; None where the system does not tell."""
    sizes = []
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # not Linux; "max" where there is none
        sizes.append(int(cgroup_limit.read_text()))
    return min(sizes, default=None)

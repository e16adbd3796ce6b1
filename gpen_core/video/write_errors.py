"""What to do about a file that could not be written."""

from __future__ import annotations

import errno

DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def recovery_advice(error: BaseException) -> str:
    """Advice that fits the error: free space only where space was short."""
    if getattr(error, "errno", None) in DISK_FULL:
        return "free space there and try again"
    return "name another place, or an output of another kind, such as .mkv"

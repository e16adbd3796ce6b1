"""Advice for files that cannot be written."""

from __future__ import annotations

import errno

DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def recovery_advice(error: BaseException) -> str:
    """Return advice that fits the error: to free space if the disk is full, or else to choose another output."""
    if getattr(error, "errno", None) in DISK_FULL:
        return "free some space and run again"
    return "choose another folder or another container, such as .mkv"

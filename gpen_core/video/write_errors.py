"""What to do about a file that could not be written."""

from __future__ import annotations

import errno

NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def cure(error: BaseException) -> str:
    """Advice that fits the error: free space only where space was short."""
    if getattr(error, "errno", None) in NO_SPACE:
        return "free space there and try again"
    return "name another place, or an output of another kind, such as .mkv"

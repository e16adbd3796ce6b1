"""Process identifiers for the names of temporary files.

A temporary file is named after the process that owns it, because locks do not work on every file system.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from pathlib import Path


def hostname() -> str:
    """The name of this machine in letters, digits and `_`.

    On Linux it includes the process namespace, because a process ID is valid only within its container."""
    name = re.sub(r"[^A-Za-z0-9]", "_", platform.node())[:40]
    with contextlib.suppress(OSError):  # not Linux
        name += "_" + re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    return name


def current_process() -> str:
    """`HOST-PID` of this process, in characters that every file system allows."""
    return f"{hostname()}-{os.getpid()}"


if sys.platform == "win32":

    def process_exists(pid: int) -> bool:
        """Whether a process with this ID runs on this machine."""
        import ctypes
        from ctypes import wintypes

        synchronize, access_denied, still_running = 0x00100000, 5, 0x102  # as named in Microsoft's headers
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
        kernel32.OpenProcess.restype = wintypes.HANDLE
        kernel32.WaitForSingleObject.argtypes = (wintypes.HANDLE, wintypes.DWORD)
        kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
        handle = kernel32.OpenProcess(synchronize, False, pid)
        if not handle:
            return ctypes.get_last_error() == access_denied
        try:
            return bool(kernel32.WaitForSingleObject(handle, 0) == still_running)
        finally:
            kernel32.CloseHandle(handle)

else:

    def process_exists(pid: int) -> bool:
        """Whether a process with this ID runs on this machine."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            return True
        return True

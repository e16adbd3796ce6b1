"""Notices what no reader of a file may do: write, delete, run a program, call anyone. By Python's audit events."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown")
NEVER = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.startfile",
    "pickle.find_class",
)
CALLS = ("socket.connect", "socket.sendto", "socket.getaddrinfo")

_watching: list[AuditGuard] = []
_hooked: list[bool] = []


class AuditGuard:
    """What was done outside of `folder`; `calls` are the hosts that may be called."""

    def __init__(self, folder: Path, calls: tuple[str, ...] = ()) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.calls = calls
        self.seen: list[str] = []

    def hear(self, event: str, args: tuple[object, ...]) -> None:
        if event in NEVER:
            self.seen.append(f"{event} {args!r}"[:300])
        elif event == "open" and isinstance(args[2], int) and args[2] & WRITES:
            self._changes(event, args[0])
        elif event in CHANGES and (event == "os.truncate" or args[-1] == -1):  # else it is a name in a folder that is open
            for path in args[:2]:
                self._changes(event, path)
        elif event in CALLS and self._host(event, args) not in self.calls:
            self.seen.append(f"{event} {args[1:]!r}"[:300])

    def _changes(self, event: str, path: object) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):  # a number, or a file that is open already
            return
        name = Path(os.fsdecode(path)).absolute()
        where = Path(
            os.path.realpath(name.parent), name.name
        )  # of a link, the link itself: what it leads to has its own event
        if self.folder not in where.parents and str(where) != os.devnull and "__pycache__" not in where.parts:
            self.seen.append(f"{event} {where}")

    def _host(self, event: str, args: tuple[object, ...]) -> object:
        address = args[0] if event == "socket.getaddrinfo" else args[1]
        return address[0] if isinstance(address, tuple) else address


@contextlib.contextmanager
def audited(folder: Path, calls: tuple[str, ...] = ()):
    """Fails where the block did more than it may, whether or not it failed otherwise."""
    if not _hooked:
        sys.addaudithook(lambda event, args: [watch.hear(event, args) for watch in _watching] and None)
        _hooked.append(True)
    watch = AuditGuard(folder, calls)
    _watching.append(watch)
    try:
        yield watch
    finally:
        _watching.remove(watch)
    assert not watch.seen, f"it did more than read: {watch.seen}"

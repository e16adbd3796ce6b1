"""Faults to be put in where memory is taken and where files are opened, written and named."""

from __future__ import annotations

import builtins
import errno
import io
import os
from pathlib import Path

import numpy as np

TORCH = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4294967296 bytes. Error code 12 (Cannot allocate memory)"
)


def numpys():
    """What numpy raises, from itself: its type has no public name."""
    try:
        np.empty(2**62, np.uint8)
    except MemoryError as error:
        return error
    raise AssertionError("this machine has 4 EiB")


NO_MEMORY = {"python": MemoryError, "torch": lambda: RuntimeError(TORCH), "numpy": numpys}


def replace(monkeypatch, owner, name, failing):
    """`owner.name` is `failing(whole, ...)` from now on."""
    whole = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: failing(whole, *args, **kwargs))


class Disk:
    """Counts what is opened, written, synced and renamed below a folder, and fails at the call `at`: that one only, or
    (`for_good`) whatever takes room from then on. What is only read counts where descriptors are wanting; deleting works."""

    def __init__(self, monkeypatch, folder, code):
        self.folder, self.code = str(folder), code
        self.calls, self.at, self.for_good = 0, 0, False
        for name in ("open", "fsync", "replace", "rename"):
            replace(monkeypatch, os, name, getattr(self, f"_{name}"))
        for owner in (builtins, io):  # `Path.open` takes io's
            replace(monkeypatch, owner, "open", self._file)
        self.ours = set()
        """Descriptors that were opened here."""

    def arm(self, at, for_good):
        self.calls, self.at, self.for_good = 0, at, for_good

    @property
    def has_failed(self):
        return 0 < self.at <= self.calls

    def call(self, what, path):
        self.calls += 1
        lasts = self.for_good and what != "rename"
        if self.at and (self.calls == self.at or (lasts and self.calls > self.at)):
            raise OSError(self.code, os.strerror(self.code), str(path))

    def _is_ours(self, path):
        return not isinstance(path, int) and str(os.fsdecode(path)).startswith(self.folder)

    def _open(self, whole, path, flags, *rest, **kwargs):
        if self._is_ours(path) and (flags & (os.O_WRONLY | os.O_RDWR) or self.code == errno.EMFILE):
            self.call("open", path)
        fd = whole(path, flags, *rest, **kwargs)
        (self.ours.add if self._is_ours(path) else self.ours.discard)(fd)
        return fd

    def _file(self, whole, path, mode="r", *rest, **kwargs):
        is_ours = path in self.ours if isinstance(path, int) else self._is_ours(path)
        writes = set(mode) & set("wax+")
        if is_ours and not isinstance(path, int) and (writes or self.code == errno.EMFILE):
            self.call("open", path)
        file = whole(path, mode, *rest, **kwargs)
        return Written(file, self) if is_ours and writes else file

    def _fsync(self, whole, fd):
        self.call("fsync", fd)
        return whole(fd)

    def _replace(self, whole, source, target):
        return self._named(whole, source, target)

    def _rename(self, whole, source, target):
        return self._named(whole, source, target)

    def _named(self, whole, source, target):
        if self._is_ours(target):
            self.call("rename", target)
        return whole(source, target)


class Written:
    """A file whose writing may fail half-way."""

    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, data):
        try:
            self._disk.call("write", self._file.name)
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *raised):
        return self._file.__exit__(*raised)


def parts(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.part"))

"""A file system for fsspec that fails as it is told to; registered as `shaky://` (files that grow) and `shakyobjects://`."""

import errno
from pathlib import Path

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class SlowDown(Exception):
    """As of a library that knows no OSError."""

    def __init__(self):
        super().__init__("Please reduce your request rate.")
        self.code = 503


FAULTS = {
    "503": SlowDown,
    "busy": lambda: OSError(errno.EBUSY, "Please reduce your request rate"),
    "timeout": lambda: TimeoutError("took too long"),
    "reset": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "forbidden": lambda: PermissionError(errno.EACCES, "Forbidden"),
    "strange": lambda: ValueError("no such thing"),
}


class ShakyStore(MemoryFileSystem):
    """In memory, apart from `memory://`. `faults` are raised by the calls to come, one each; `log` is what was called."""

    protocol = "shaky"
    store, pseudo_dirs = {}, [""]
    faults, log = [], []

    @classmethod
    def _strip_protocol(cls, path):
        for protocol in ("shakyobjects", "shaky"):
            path = path.removeprefix(f"{protocol}://")
        return MemoryFileSystem._strip_protocol(path)

    def _fail(self, name, path):
        self.log.append((name, Path(path).name))
        if self.faults and self.faults[0][0] in (name, "any"):
            raise FAULTS[self.faults.pop(0)[1]]()

    def open(self, path, mode="rb", **more):
        self._fail("open", path)
        return super().open(path, mode, **more)

    def pipe_file(self, path, value, **more):
        self._fail("put", path)
        return super().pipe_file(path, value, **more)

    def mv(self, path1, path2, **more):
        self._fail("move", path2)
        self.cp_file(path1, path2)
        self.rm_file(path1)

    def info(self, path, **more):
        self._fail("info", path)
        return super().info(path, **more)

    def find(self, path, **more):
        self._fail("find", path)
        return super().find(path, **more)


def register():
    for protocol in ("shaky", "shakyobjects"):
        fsspec.register_implementation(protocol, ShakyStore, clobber=True)
    ShakyStore.store.clear()
    ShakyStore.pseudo_dirs[:] = [""]
    ShakyStore.faults.clear()
    ShakyStore.log.clear()
    return ShakyStore

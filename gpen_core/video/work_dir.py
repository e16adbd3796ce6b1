"""The folder next to an unfinished output, which keeps finished parts for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from ..errors import InputError, OutputError
from ..files.lock_file import file_lock, has_locks, is_link
from ..files.path_checks import is_folder
from ..progress import Progress, ProgressEvent
from .probe import frame_files

SUFFIX = ".unfinished"
CHUNK_SIZE = 2**22  # bytes
KEY_LENGTH = 16  # digits of a digest in a folder's name
IGNORED_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")  # file browsers create these in any folder
MAX_NAME_BYTES = 200  # of the output's name; file systems allow 255, and the lock file's name is longer
SourceState = tuple[str, int, int]
"""Name, size in bytes and time of the last change in nanoseconds of a file. One that keeps it keeps its content."""
KEY_PATTERN = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


class OutputLocked(OutputError):
    """Another run is writing this output."""


class WorkDir:
    """The work folder of one output, with the results of first passes and the finished segments."""

    def __init__(self, target: Path) -> None:
        self.target = target if target.name not in ("", "..") else target.resolve()
        self.folder = self.target.with_name(_folder_name(self.target.name))

    @property
    def has_progress(self) -> bool:
        """Whether an earlier run left results in it."""
        return is_folder(self.folder) and any(self.folder.glob("*/analysis.npz"))

    @contextlib.contextmanager
    def lock(self, restart: bool) -> Iterator[None]:
        """Lock the output against other runs. With `restart`, the results of earlier runs are deleted first.

        An empty work folder is deleted at the end. Raises `OutputLocked` if another run has the lock. Raises `OutputError`
        if the folder cannot be created, is a link, or was not created by gpen."""
        lock = None
        try:
            self._raise_if_foreign()
            lock_path = self.folder.with_name(f".{self.folder.name}.lock")
            lock = file_lock(lock_path)
            self.folder.mkdir(parents=True, exist_ok=True)
            if has_locks(lock_path):
                lock.acquire(timeout=0)
            if restart:
                self._delete()
                self.folder.mkdir(exist_ok=True)
        except Timeout as error:
            raise OutputLocked(
                f"{self.target} is being written by another run. Wait for it, or choose another output."
            ) from error
        except OSError as error:
            if lock is not None:
                lock.release()
            raise OutputError(f"{self.folder} cannot be written: {error.strerror or error}.") from error
        try:
            yield
        finally:
            for folder in (*filter(_is_own, self.folder.glob("*")), self.folder):
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()
            lock.release()
            if not self.folder.exists():
                with contextlib.suppress(OSError):  # on Windows, a waiting process may have it open
                    Path(lock.lock_file).unlink(missing_ok=True)

    def _raise_if_foreign(self) -> None:
        """Raise `OutputError` for a link, and for a file or folder that gpen did not create."""
        folder = self.folder
        if is_link(folder):
            raise OutputError(f"{folder} is a link, and gpen does not follow it. Delete it, or choose another output.")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file, but gpen needs a folder there. Rename it, or choose another output.")
        entries = [path for path in folder.glob("*") if path.name not in IGNORED_FILES]
        if entries and not any(map(_is_own, entries)):
            raise OutputError(
                f"{folder} contains {entries[0].name}, which gpen did not create. Rename it, or choose another output."
            )

    def _delete(self) -> None:
        """Delete gpen's subfolders, and the folder if nothing else is in it. Raises `OSError`."""
        own = [path for path in self.folder.iterdir() if _is_own(path)]
        for path in own:
            shutil.rmtree(path, ignore_errors=True)  # deletes as much as possible
        for path in filter(Path.exists, own):
            shutil.rmtree(path)  # raises the reason
        if all(path.name in IGNORED_FILES for path in self.folder.iterdir()):
            shutil.rmtree(self.folder)

    def subfolder(self, key: str) -> Path:
        """Create and return the subfolder for a key, see `cache_key`."""
        folder = self.folder / key
        if is_link(folder):
            raise OutputError(f"{folder} is a link, and gpen does not follow it. Delete it and try again.")
        folder.mkdir(exist_ok=True)
        return folder

    def other_runs(self, keys: Iterable[str]) -> list[str]:
        """Return the subfolders of runs with other options or of another video."""
        return sorted(path.name for path in filter(_is_own, self.folder.iterdir()) if path.name not in keys)

    def raise_if_changed(self, source: Path, state: Sequence[SourceState], digest: str, progress: Progress) -> None:
        """Raise `InputError` if a video no longer is what its state and its digest say.

        Nothing is kept then, because segments may mix its old and its new frames."""
        if source_state(source) != state and source_digest(source, progress) != digest:
            self.clear()
            raise InputError(f"{source} changed during the run. Run again.")

    def clear(self) -> str | None:
        """Delete the folder after the output is complete. Return a note if a part of it remains."""
        try:
            self._delete()
        except OSError as error:  # on Windows, another program may have a file open, such as a virus scanner
            return f"The video is complete, but {self.folder} could not be deleted ({error.strerror or error}). Delete it."
        return f"{self.folder} was kept, because it contains files of others." if self.folder.exists() else None


def _folder_name(name: str) -> str:
    """Return the output's name with a suffix. A long name is shortened and gets a digest, so that it stays unique."""
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:KEY_LENGTH]
        short = os.fsencode(name)[: MAX_NAME_BYTES - KEY_LENGTH - 1].decode("utf-8", "ignore")
        name = f"{short}.{digest}"
    return name + SUFFIX


def _is_own(path: Path) -> bool:
    return KEY_PATTERN.fullmatch(path.name) is not None and not is_link(path) and path.is_dir()


def cache_key(*parts: Any) -> str:
    """Return a key for these inputs: digests, options, or anything that JSON can represent."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def source_state(path: Path) -> list[SourceState]:
    """Return the state of a video, or of each of a folder's frames. Raises `InputError` if it cannot be read."""
    try:
        stats = [(one.name, one.stat()) for one in (frame_files(path) if is_folder(path) else [path])]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return [(name, one.st_size, one.st_mtime_ns) for name, one in stats]


def source_digest(path: Path, progress: Progress) -> str:
    """Return the SHA-256 of a video's content, or of a folder's frames with their names.

    Raises `InputError` if it cannot be read."""
    digest = hashlib.sha256()
    files = frame_files(path) if is_folder(path) else [path]
    try:
        total = sum(one.stat().st_size for one in files)
        done = 0
        for one in files:
            digest.update(one.name.encode() if is_folder(path) else b"")
            with one.open("rb") as data:
                while chunk := data.read(CHUNK_SIZE):
                    digest.update(chunk)
                    done += len(chunk)
                    progress(ProgressEvent("read", done, total, "byte", "Reading the video"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def networks_digest(networks: Iterable[torch.nn.Module]) -> str:
    """Return the SHA-256 of the networks' tensors, independent of their files."""
    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()

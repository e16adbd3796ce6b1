"""The folder beside a video in the making, in which finished parts wait for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from ..errors import InputError, OutputError
from ..files.lock_file import file_lock, is_link
from ..progress import Progress, ProgressEvent
from .probe import frame_files

SUFFIX = ".unfinished"
CHUNK_SIZE = 2**22  # bytes
KEY_LENGTH = 16  # digits of a digest that name a folder
IGNORED_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")  # file browsers leave these in any folder
MAX_NAME_BYTES = 200  # of the output's name in the folder's: file systems allow 255, and the lock's name is longer
KEY_PATTERN = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


class OutputLocked(OutputError):
    """Another run is writing this output."""


class WorkDir:
    """One run's part of the folder: what was found in the video, and the segments that are finished."""

    def __init__(self, target: Path) -> None:
        self.target = target if target.name not in ("", "..") else target.resolve()
        self.folder = self.target.with_name(_folder_name(self.target.name))

    @property
    def has_progress(self) -> bool:
        """Whether something waits in it for the next run."""
        return any(self.folder.glob("*/analysis.npz"))

    @contextlib.contextmanager
    def lock(self, restart: bool) -> Iterator[None]:
        """Keeps other runs off this output. With `restart`, what an earlier run has left is deleted first. An empty work
        folder is deleted at the end. Raises `OutputLocked` where another run holds the lock, and `OutputError` where the
        folder cannot be made, is a link, or belongs to somebody else."""
        lock = None
        try:
            self._raise_if_foreign()
            lock = file_lock(self.folder.with_name(f".{self.folder.name}.lock"))
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            if restart:
                self._delete()
                self.folder.mkdir(exist_ok=True)
        except Timeout as error:
            raise OutputLocked(
                f"{self.target} is being written by another run. Wait for it, or give another output."
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
                with contextlib.suppress(OSError):  # Windows: a waiting process has it open
                    Path(lock.lock_file).unlink(missing_ok=True)

    def _raise_if_foreign(self) -> None:
        """Raises `OutputError` for a link, which would be written through, and for what gpen did not make."""
        folder = self.folder
        if is_link(folder):
            raise OutputError(f"{folder} is a link: gpen does not write to its target. Delete it, or name another output.")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file, but gpen needs a folder there. Rename it, or name another output.")
        entries = [path for path in folder.glob("*") if path.name not in IGNORED_FILES]
        if entries and not any(map(_is_own, entries)):
            raise OutputError(
                f"{folder} contains {entries[0].name}, so gpen did not make it. Rename it, or name another output."
            )

    def _delete(self) -> None:
        """Deletes what gpen made in the folder, and the folder if nothing else is in it. Raises `OSError`."""
        own = [path for path in self.folder.iterdir() if _is_own(path)]
        for path in own:
            shutil.rmtree(path, ignore_errors=True)  # all that can be deleted
        for path in filter(Path.exists, own):
            shutil.rmtree(path)  # raises why not
        if all(path.name in IGNORED_FILES for path in self.folder.iterdir()):
            shutil.rmtree(self.folder)

    def subfolder(self, key: str) -> Path:
        """The folder of what was made under that key, see `cache_key`; it is made."""
        folder = self.folder / key
        if is_link(folder):
            raise OutputError(f"{folder} is a link: gpen does not write to its target. Delete it and try again.")
        folder.mkdir(exist_ok=True)
        return folder

    def other_runs(self, keys: Iterable[str]) -> list[str]:
        """What other runs have left, with other options or of another video."""
        return sorted(path.name for path in filter(_is_own, self.folder.iterdir()) if path.name not in keys)

    def clear(self) -> str | None:
        """Deletes the folder once the output is complete. Returns a note where something of it stays: the video is done."""
        try:
            self._delete()
        except OSError as error:  # on Windows: another program, such as a virus scanner, has a file open
            return f"The video is complete, but {self.folder} could not be deleted ({error.strerror or error}). Delete it."
        return f"{self.folder} was kept: it holds files that gpen did not make." if self.folder.exists() else None


def _folder_name(name: str) -> str:
    """The output's name and a suffix. A long name is shortened, and a digest keeps it apart from similar ones."""
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:KEY_LENGTH]
        short = os.fsencode(name)[: MAX_NAME_BYTES - KEY_LENGTH - 1].decode("utf-8", "ignore")
        name = f"{short}.{digest}"
    return name + SUFFIX


def _is_own(path: Path) -> bool:
    return KEY_PATTERN.fullmatch(path.name) is not None and not is_link(path) and path.is_dir()


def cache_key(*parts: Any) -> str:
    """A name for what is made of these: digests, options, anything that JSON knows."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def source_digest(path: Path, progress: Progress) -> str:
    """SHA-256 of a video's content, or of a folder's frames with their names. Raises `InputError` where it cannot be
    read."""
    digest = hashlib.sha256()
    files = frame_files(path) if path.is_dir() else [path]
    try:
        total = sum(one.stat().st_size for one in files)
        done = 0
        for one in files:
            digest.update(one.name.encode() if path.is_dir() else b"")
            with one.open("rb") as data:
                while chunk := data.read(CHUNK_SIZE):
                    digest.update(chunk)
                    done += len(chunk)
                    progress(ProgressEvent("read", done, total, "byte", "Reading the video"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def networks_digest(networks: Iterable[torch.nn.Module]) -> str:
    """SHA-256 of what they compute with, whatever file it came from."""
    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()

"""The folder beside a film in the making, in which finished parts wait for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..errors import InputError, OutputError
from ..progress import Progress
from .probe import frame_files

SUFFIX = ".unfinished"
CHUNK = 2**22  # bytes
KEPT = 16  # digits of a digest that name a folder


class InUse(OutputError):
    """Another run is writing this output."""


class Work:
    """One run's part of the folder: what was found in the film, and the segments that are finished."""

    def __init__(self, target: Path) -> None:
        self.target = target if target.name not in ("", "..") else target.resolve()
        self.folder = self.target.with_name(self.target.name + SUFFIX)

    @property
    def is_begun(self) -> bool:
        """Whether something waits in it for the next run."""
        return any(self.folder.glob("*/survey.npz"))

    @contextlib.contextmanager
    def locked(self, is_fresh: bool) -> Iterator[None]:
        """Nobody else works on this output meanwhile. Raises `InUse` where somebody does, and `OutputError` where the folder
        cannot be made. With `is_fresh` what an earlier run has left is deleted. The folder goes if nothing waits in it."""
        lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            if is_fresh:
                shutil.rmtree(self.folder)
                self.folder.mkdir()
        except Timeout as error:
            raise InUse(f"{self.target} is being written by another run. Wait for it, or give another output.") from error
        except OSError as error:
            lock.release()
            raise OutputError(f"{self.folder} cannot be written: {error.strerror or error}.") from error
        try:
            yield
        finally:
            for folder in (*self.folder.glob("*"), self.folder):
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()
            lock.release()
            if not self.folder.exists():
                Path(lock.lock_file).unlink(missing_ok=True)

    def part(self, key: str) -> Path:
        """The folder of what was made under that key, see `key_of`; it is made."""
        folder = self.folder / key
        folder.mkdir(exist_ok=True)
        return folder

    def others(self, keys: Iterable[str]) -> list[str]:
        """What other runs have left, with other options or of another film."""
        return sorted(path.name for path in self.folder.iterdir() if path.name not in keys)

    def clear(self) -> None:
        """Once the output is there: deletes all of it."""
        shutil.rmtree(self.folder)


def key_of(*parts: Any) -> str:
    """A name for what is made of these: digests, options, anything that JSON knows."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEPT]


def digest_of_file(path: Path, progress: Progress) -> str:
    """SHA-256 of a film's content, or of a folder's frames with their names. Raises `InputError` where it cannot be read."""
    digest = hashlib.sha256()
    files = frame_files(path) if path.is_dir() else [path]
    try:
        total = sum(one.stat().st_size for one in files)
        done = 0
        for one in files:
            digest.update(one.name.encode() if path.is_dir() else b"")
            with one.open("rb") as data:
                while chunk := data.read(CHUNK):
                    digest.update(chunk)
                    done += len(chunk)
                    progress(done >> 20, max(1, total >> 20), "Reading the film (MiB)")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def digest_of_networks(networks: Iterable[torch.nn.Module]) -> str:
    """SHA-256 of what they compute with, whatever file it came from."""
    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()

"""Atomic file writes: a file is written completely or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from .regular_file import INVALID_NAME
from .stale_temp import DAY, create_empty, remove_stale, temp_name

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file in the same folder, which replaces `path` at the end of the block.

    On any error the temporary file is deleted. If the process is killed, a later write to the same path deletes it.
    Thread-safe. Raises `OutputError` if `path` is a folder or cannot be written."""
    try:
        target = Path(os.path.realpath(path))  # keep a link and replace its target
        if target.exists() and not target.is_file():
            raise OutputError(f"{path} is a folder or a device. Give the name of a file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target, DAY, is_listed_once=True)  # listing a large folder for each image is slow
        part = target.with_name(temp_name(target.name))
        create_empty(part)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    except ValueError as error:
        raise OutputError(f"{path} cannot be written: {INVALID_NAME}.") from error
    try:
        yield part
        if target.exists():
            _copy_permissions(target, part)
        os.replace(part, target)
    except OSError as error:
        unchanged = " It was not changed." if os.path.lexists(target) else ""
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.{unchanged}") from error
    finally:
        try:
            part.unlink(missing_ok=True)
        except PermissionError:  # on Windows, with the permissions of a read-only target
            part.chmod(stat.S_IREAD | stat.S_IWRITE)
            part.unlink(missing_ok=True)


def check_folder_writable(folder: Path, option: str = "-o") -> None:
    """Raises `OutputError` where files cannot be made in the folder or, if it is not there yet, in the nearest one above it
    that is. Leaves nothing behind. `option`: what to change, for the message."""
    try:
        existing = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(
            f"Nothing can be written to {folder}: {error.strerror or error}. Choose another {option}."
        ) from error
    except ValueError as error:
        raise OutputError(f"Nothing can be written to {folder}: {INVALID_NAME}.") from error


def _copy_permissions(target: Path, part: Path) -> None:
    """Copy owner, mode and extended attributes of the replaced file, as far as this process is permitted to."""
    status = target.stat()
    if status.st_nlink > 1:
        log.warning("%s has %d hard links. Only this one gets the new content.", target, status.st_nlink)
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):  # only root may change the owner; others may set one of their groups
            os.chown(part, -1, status.st_gid)
            os.chown(part, status.st_uid, -1)
    part.chmod(status.st_mode & 0o7777)
    if hasattr(os, "listxattr"):  # access control lists are extended attributes, too
        with contextlib.suppress(OSError):  # the file system does not support them
            for name in os.listxattr(target):
                os.setxattr(part, name, os.getxattr(target, name))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically. Raises `OutputError` and keeps the old contents if that fails."""
    with atomic_write(path) as part, open(part, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())

"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from .regular_file import INVALID_NAME
from .stale_temp import DAY, create_empty, remove_stale, temp_name

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives the path of an empty file in the same folder to write to. At the end that file replaces `path` in one step; on
    any error it is deleted. A later write to the same path deletes what a killed process left behind.

    Raises `OutputError` where `path` is a folder or cannot be written. Safe from several threads."""
    try:
        target = Path(os.path.realpath(path))  # a link keeps pointing where it did
        if target.exists() and not target.is_file():
            raise OutputError(f"{path} is a folder or a device. It was left as it is; give a file's name.")
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target, DAY, is_listed_once=True)  # else each image would cost a listing of a large folder
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
        raise OutputError(f"{path} cannot be written: {error.strerror or error}. It was left as it was.") from error
    finally:
        part.unlink(missing_ok=True)


def _copy_permissions(target: Path, part: Path) -> None:
    """Owner, mode, access lists and other extended attributes of the file that is replaced, as far as they may be set."""
    status = target.stat()
    if status.st_nlink > 1:
        log.warning("%s has %d names: only this one gets the new content.", target, status.st_nlink)
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):  # only root gives files away; a group of one's own may be set
            os.chown(part, -1, status.st_gid)
            os.chown(part, status.st_uid, -1)
    part.chmod(status.st_mode & 0o7777)
    if hasattr(os, "listxattr"):  # access lists are such, too
        with contextlib.suppress(OSError):  # a file system without them
            for name in os.listxattr(target):
                os.setxattr(part, name, os.getxattr(target, name))


def write_bytes(path: Path, data: bytes) -> None:
    """`path` holds all of `data` afterwards, or what it held before; `OutputError` in the latter case."""
    with atomic_write(path) as part, open(part, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())

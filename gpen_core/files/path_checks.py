"""Paths that users name: their conversion, and checks that never raise, unlike those of `Path`. A name can be too long, or a
folder unreadable; opening such a path raises the reason."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import InputError, OutputError

AnyPath = str | os.PathLike[str]

URL_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # a single letter would be a drive


def local_path(path: AnyPath, error: type[InputError | OutputError] = InputError) -> Path:
    """Convert to a `Path`. Reject URLs and empty paths here: `Path` would change the slashes of a URL, and make the current
    folder of an empty path."""
    if path == "":
        raise error("The path is empty. Name a file.")
    if isinstance(path, str) and URL_SCHEME.match(path):
        raise error(f"{path} is a URL. Only local paths are supported: use fsspec, for example, to read or write the bytes.")
    return Path(path)


def exists(path: str | Path) -> bool:
    """Whether there is a file or folder, as far as this process can see."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: str | Path) -> bool:
    """Whether it is a folder, as far as this process can see."""
    return os.path.isdir(path)  # noqa: PTH112

"""Checks of paths that users name. Unlike those of `Path`, they never raise: a name can be too long, or a folder unreadable.

Opening such a path raises the reason."""

from __future__ import annotations

import os
from pathlib import Path


def exists(path: str | Path) -> bool:
    """Whether there is a file or folder, as far as this process can see."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: str | Path) -> bool:
    """Whether it is a folder, as far as this process can see."""
    return os.path.isdir(path)  # noqa: PTH112

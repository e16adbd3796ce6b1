"""Where a picture lies, and how two names of one place are told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

Place = Path


def place_of(text: str) -> Place:
    return Path(text)


def is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises on names that are too long


def same_file_key(place: Place) -> str:
    """Equal for two names of one file."""
    return _without_case(os.path.normcase(os.path.realpath(place)))


class Keys:
    """`same_file_key` for many places, given as text: of each folder, where its links lead is asked once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, text: str) -> str:
        folder, name = os.path.split(text)
        is_special = name in ("", ".", "..") or os.name == "nt"  # where a name, too, may be one of two for a file
        if is_special or os.path.islink(text):  # noqa: PTH114  a million Paths take longer than all the rest
            return same_file_key(place_of(text))
        if folder not in self._folders:
            if len(self._folders) >= FOLDERS_KNOWN:
                self._folders.clear()
            self._folders[folder] = os.path.realpath(folder)
        return _without_case(os.path.normcase(os.path.join(self._folders[folder], name)))


FOLDERS_KNOWN = 10_000


def _without_case(real: str) -> str:
    return real.casefold() if sys.platform == "darwin" else real  # where case rarely tells files apart

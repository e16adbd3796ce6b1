"""Keys that tell whether two names lead to the same file."""

from __future__ import annotations

import os
import sys

from . import remote
from .locations import URL_SCHEME, Location, Url, parse_location

MAX_FOLDERS = 10_000  # that a `FileKeyMap` remembers


def same_file_key(location: Location) -> str:
    """A text that is equal for two names of one file. Raises `MissingDependency` for a URL without an installed file
    system."""
    if isinstance(location, Url):
        return remote.object_key(location)
    return _fold_case(os.path.normcase(_real_path(str(location))))


class FileKeyMap:
    """`same_file_key` for many paths and URLs, given as text. The links of each folder are resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def key_for(self, text: str) -> str:
        if URL_SCHEME.match(text):
            return same_file_key(parse_location(text))
        folder, name = os.path.split(text)
        is_special = name in ("", ".", "..") or os.name == "nt"  # where one file may have two names in a folder
        if is_special or os.path.islink(text):  # noqa: PTH114  a million Paths take longer than all the rest
            return same_file_key(parse_location(text))
        if folder not in self._folders:
            if len(self._folders) >= MAX_FOLDERS:
                self._folders.clear()
            self._folders[folder] = _real_path(folder)
        return _fold_case(os.path.normcase(os.path.join(self._folders[folder], name)))


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no file can have such a name, for example one with NUL: reading or writing it gives the error
        return os.path.normpath(path)


def _fold_case(path: str) -> str:
    return path.casefold() if sys.platform == "darwin" else path  # there, case rarely distinguishes files

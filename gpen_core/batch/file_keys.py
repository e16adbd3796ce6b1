"""Keys that show whether two names mean the same file."""

from __future__ import annotations

import os
import sys
import unicodedata

from ..files.path_checks import URL_SCHEME
from . import remote
from .locations import Location, Url, parse_location

MAX_FOLDERS = 10_000  # cached by a `FileKeyMap`


def same_file_key(location: Location) -> str:
    """Return a key that is equal for two names of one file.

    Raises `MissingDependency` for a URL whose file system is not installed."""
    if isinstance(location, Url):
        return remote.object_key(location)
    return _fold_path(os.path.normcase(_real_path(str(location))))


class FileKeyMap:
    """`same_file_key` for many paths and URLs. The links of each folder are resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def key_for(self, text: str) -> str:
        if URL_SCHEME.match(text):
            return same_file_key(parse_location(text))
        folder, name = os.path.split(text)
        is_special = name in ("", ".", "..") or os.name == "nt"  # on Windows, a file can have two names
        if is_special or os.path.islink(text):  # noqa: PTH114  creating a million Paths would take most of the time
            return same_file_key(parse_location(text))
        if folder not in self._folders:
            if len(self._folders) >= MAX_FOLDERS:
                self._folders.clear()
            self._folders[folder] = _real_path(folder)
        return _fold_path(os.path.normcase(os.path.join(self._folders[folder], name)))


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # an impossible name, e.g. with NUL. Reading or writing it raises the error
        return os.path.normpath(path)


def fold_name(name: str) -> str:
    """Return the same text for names in upper and lower case, and with accents as one character or two."""
    return unicodedata.normalize("NFC", name.casefold())


def _fold_path(path: str) -> str:
    return fold_name(path) if sys.platform == "darwin" else path  # file systems on macOS usually take them for the same

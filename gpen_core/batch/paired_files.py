"""Pictures before a swap, backgrounds and masks: which belongs to which picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePath

from ..errors import OptionsError
from .locations import is_folder
from .sources import Found, pictures_in

NAMED = 5


class Companions:
    """For each picture the file given, or the one of its name in the folder given: in the same folder below it as the
    picture's result is below its own, where there is such a folder.

    What is wrong is kept for `check`, so that it is said of all pictures together."""

    def __init__(self, given: Path | None, option: str) -> None:
        self.given, self.option = given, option
        self._is_folder = given is not None and is_folder(given)
        self._named = lru_cache(maxsize=16)(_named)
        self._missing: dict[str, None] = {}
        self._ambiguous: OptionsError | None = None

    def of(self, found: Found) -> Path | None:
        if self.given is None or not self._is_folder:
            return self.given
        named, name = self._named(self._folder(found)), PurePath(found.source).name
        stem = PurePath(name).stem.casefold()
        if stem not in named:
            if len(self._missing) < NAMED:
                self._missing[name] = None
            return None
        try:
            return _companion(name, named[stem], self.option)
        except OptionsError as error:
            self._ambiguous = self._ambiguous or error
            return None

    def check(self, count: int) -> None:
        """Raises `OptionsError` where one of the so many pictures has no companion, or one of several."""
        if self.given is None:
            return
        if not self._is_folder and count > 1:
            raise OptionsError(f"{self.option} names one file for {count} pictures. Give a folder.")
        if self._missing:
            raise OptionsError(f"{self.option}: {self.given} holds no picture named like {', '.join(self._missing)}.")
        if self._ambiguous is not None:
            raise self._ambiguous

    def _folder(self, found: Found) -> Path:
        assert self.given is not None
        folders, slash, _ = found.below.rpartition("/")
        deeper = self.given / folders
        return deeper if slash and is_folder(deeper) else self.given


def _named(folder: Path) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = defaultdict(list)
    for path in pictures_in(folder):
        named[path.stem.casefold()].append(path)
    return dict(named)


def _companion(name: str, named: Sequence[Path], option: str) -> Path:
    """Of those that are named like the picture: the only one, or that of its own kind."""
    same_kind = [path for path in named if path.name.casefold() == name.casefold()]
    for some in (named, same_kind):
        if len(some) == 1:
            return some[0]
    names = ", ".join(path.name for path in named)
    raise OptionsError(f"{option}: of {names} in {named[0].parent} any may belong to {name}. Leave one there.")

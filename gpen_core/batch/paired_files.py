"""Assign images before a swap, backgrounds and masks to the images of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePath

from ..errors import OptionsError
from ..files.path_checks import is_folder
from .file_keys import fold_name
from .sources import InputItem, image_files

MAX_LISTED = 5


class PairedFiles:
    """Finds the paired file of each image.

    A given file belongs to the only image. In a given folder, the file with the image's name is used, in the same subfolder
    if it exists. Problems are collected, and `check` raises them for all images together."""

    def __init__(self, path: Path | None, option: str) -> None:
        self.path, self.option = path, option
        self._is_folder = path is not None and is_folder(path)
        self._files_by_stem = lru_cache(maxsize=16)(_files_by_stem)
        self._missing: dict[str, None] = {}
        self._ambiguous: OptionsError | None = None

    def for_image(self, item: InputItem) -> Path | None:
        if self.path is None or not self._is_folder:
            return self.path
        by_stem, name = self._files_by_stem(self._folder_for(item)), PurePath(item.source).name
        stem = fold_name(PurePath(name).stem)
        if stem not in by_stem:
            if len(self._missing) < MAX_LISTED:
                self._missing[name] = None
            return None
        try:
            return _select_file(name, by_stem[stem], self.option)
        except OptionsError as error:
            self._ambiguous = self._ambiguous or error
            return None

    def check(self, count: int) -> None:
        """Raise `OptionsError` if one of the `count` images has no paired file, or several candidates."""
        if self.path is None:
            return
        if not self._is_folder and count > 1:
            raise OptionsError(f"{self.option} is one file for {count} images. Use a folder instead.")
        if self._missing:
            raise OptionsError(
                f"{self.option}: {self.path} has no image for {', '.join(self._missing)}. Add images with these names."
            )
        if self._ambiguous is not None:
            raise self._ambiguous

    def _folder_for(self, item: InputItem) -> Path:
        assert self.path is not None
        folders, slash, _ = item.relative_path.rpartition("/")
        deeper = self.path / folders
        return deeper if slash and is_folder(deeper) else self.path


def _files_by_stem(folder: Path) -> dict[str, list[Path]]:
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in image_files(folder):
        by_stem[fold_name(path.stem)].append(path)
    return dict(by_stem)


def _select_file(name: str, candidates: Sequence[Path], option: str) -> Path:
    """Select the only candidate, or the only one with the image's suffix, or the one with exactly its name."""
    same_kind = [path for path in candidates if fold_name(path.name) == fold_name(name)]
    same_name = [path for path in candidates if path.name == name]
    for some in (candidates, same_kind, same_name):
        if len(some) == 1:
            return some[0]
    names = ", ".join(path.name for path in candidates)
    raise OptionsError(f"{option}: several files in {candidates[0].parent} may belong to {name}: {names}. Keep one of them.")

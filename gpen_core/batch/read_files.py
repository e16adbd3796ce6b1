"""The files that the options of a run name, which no output may overwrite."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import OptionsError
from .file_keys import same_file_key
from .input_kinds import IMAGES


class ReadFiles:
    """Files that a run reads, and images that are directly in folders that it reads."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._keys = frozenset(map(same_file_key, paths))

    def raise_if_overwritten(self, output: object, key: str, advice: str = "Choose another -o.") -> None:
        """Raise `OptionsError` if one of the files would be overwritten, or a folder would get another image.

        `key` is the output's `same_file_key`."""
        if key in self._keys:
            raise OptionsError(f"{output} is an input and would be overwritten. {advice}")
        folder, name = os.path.split(key)
        if folder in self._keys and IMAGES.is_name(name):
            raise OptionsError(f"{output} would be among the images of an input folder. {advice}")

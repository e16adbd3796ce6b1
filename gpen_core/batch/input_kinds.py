"""The kinds of files that a run searches folders for: images or videos."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..errors import InputError
from ..images import formats
from ..video import containers
from ..video.probe import frame_files


@dataclass(frozen=True)
class InputKind:
    noun: str
    suffixes: Collection[str]
    """Lowercase suffixes of its files, whether or not this installation can read them."""
    missing_reader: Callable[[str], str | None] = lambda suffix: None
    """Returns why files with a suffix are left out of a folder, and what to do; None if they are not."""
    is_input_folder: Callable[[Path], bool] = lambda folder: False
    """Whether a folder without such files is one input itself."""
    expected: str = ""
    """The inputs that a message about an empty folder names. Empty: `noun`."""

    @property
    def readable_suffixes(self) -> tuple[str, ...]:
        return tuple(suffix for suffix in self.suffixes if self.missing_reader(suffix) is None)

    def is_name(self, name: str) -> bool:
        """Whether a file has one of the suffixes and is not hidden."""
        return not name.startswith(".") and PurePath(name).suffix.lower() in self.suffixes


def _missing_image_reader(suffix: str) -> str | None:
    format_name = formats.INPUT_SUFFIXES.get(suffix)
    return None if format_name is None else formats.missing_reader(format_name)


def _not_in_place(suffix: str) -> str | None:
    if suffix not in formats.INPUT_SUFFIXES or suffix in formats.OUTPUT_SUFFIXES:
        return _missing_image_reader(suffix)
    return "cannot be written in place: use -o OUT"


def _has_frames(folder: Path) -> bool:
    try:
        return bool(frame_files(folder))
    except InputError:  # searching the folder raises it, too
        return False


IMAGES = InputKind("image", formats.INPUT_SUFFIXES, _missing_image_reader)
IMAGES_IN_PLACE = InputKind("image", formats.INPUT_SUFFIXES, _not_in_place)
"""Images whose format can be written."""
VIDEOS = InputKind("video", containers.INPUT_SUFFIXES, is_input_folder=_has_frames, expected="videos and no frames")

"""The pictures that the arguments of a run stand for, one after the other: none but the names of one folder, or those
that match one pattern, are held at once; of object stores, those in one folder with all that lies deeper."""

from __future__ import annotations

import glob
import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..errors import InputError, OptionsError
from ..images import codecs
from . import input_list, remote
from .file_keys import same_file_key
from .locations import SCHEME, Place, Url, is_folder, place_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A picture, and what its result is called below the folder that results go to (`/` between folders). As text: of
    millions, making a `Path` of each takes longer than all the rest."""

    source: str
    below: str

    @classmethod
    def named(cls, path: Place) -> Found:
        """Its result goes directly below OUT."""
        return cls(str(path), path.name)


@dataclass(frozen=True)
class Sources:
    """What a run was asked to restore."""

    arguments: tuple[str, ...] = ()
    """Files, folders and glob patterns, also as URLs. Names that stand for nothing stay in: reading them says why."""
    listing: Path | None = None
    """A list of pictures, see `lists`. Their results keep the whole path below OUT, so that where one goes depends on
    nothing else that is in the list."""
    recursive: bool = False
    """What lies deeper in folders, too; their structure, and that below a pattern's fixed part, is kept."""
    left_out: Place | None = None
    """A folder that is not looked into on the way: that of the results."""

    def __str__(self) -> str:
        return ", ".join((*self.arguments, *([] if self.listing is None else [str(self.listing)])))

    def __iter__(self) -> Iterator[Found]:
        """In order; a picture that is named twice comes twice. Raises `OptionsError` for an empty name and `InputError`
        for a folder or list that cannot be read."""
        empty, found = [], False
        for argument in self.arguments:
            is_empty = True
            for one in self._expanded(argument):
                is_empty = False
                yield one
            found = found or not is_empty
            empty += [argument] * is_empty
        if self.listing is not None:
            for text in input_list.read(self.listing):
                yield listed(text)
                found = True
        if empty and found:  # with nothing found, the caller has that to say
            log.warning("No pictures (%s) in %s.", ", ".join(codecs.SUFFIXES), ", ".join(empty))

    def _expanded(self, argument: str) -> Iterable[Found]:
        if not argument:
            raise OptionsError("An input has an empty name. Name a picture, a folder (. is this one) or a pattern.")
        path = place_of(argument)
        if isinstance(path, Url):
            return self._remote(path)
        if is_folder(path):
            return self._in_folder(path)
        if "\0" not in argument and not os.path.lexists(path) and glob.has_magic(argument):
            return self._matches(argument) or [Found.named(path)]
        return [Found.named(path)]

    def _in_folder(self, top: Path) -> Iterator[Found]:
        if not self.recursive:
            return map(Found.named, pictures_in(top))
        left_out = same_file_key(self.left_out) if isinstance(self.left_out, Path) else None
        return _deep(top, "", left_out)

    def _matches(self, pattern: str) -> list[Found]:
        paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if not is_folder(p)]
        return [Found(str(path), fixed_below(path, pattern) if self.recursive else path.name) for path in paths]

    def _remote(self, url: Url) -> list[Found]:
        """Where a name is a picture's, nobody is asked whether it is there."""
        if url.is_pattern:
            return self._remote_matches(url) or [Found(url.text, url.name)]
        if url.name and (is_picture_name(url.name) or not remote.is_folder(url)):
            return [Found(url.text, url.name)]
        return self._in_remote_folder(url)

    def _remote_matches(self, url: Url) -> list[Found]:
        fixed = 0
        if self.recursive:
            parts = remote.key(url).split("/")[:-1]
            fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        found = [Url(text) for text in remote.matches(url)]
        below = ["/".join(remote.key(one).split("/")[fixed:]) if self.recursive else one.name for one in found]
        return [Found(one.text, kept_inside(name)) for one, name in zip(found, below)]

    def _in_remote_folder(self, url: Url) -> list[Found]:
        left_out = f"{remote.key(self.left_out).rstrip('/')}/" if isinstance(self.left_out, Url) else None
        found = []
        for below in remote.files_in(url, self.recursive):
            one = url / below
            *folders, name = below.split("/")
            is_hidden = any(folder.startswith(".") for folder in folders)
            is_left_out = left_out is not None and remote.key(one).startswith(left_out)
            if is_picture_name(name) and not is_hidden and not is_left_out:
                found.append(Found(one.text, kept_inside(below)))
        return found


def kept_inside(below: str) -> str:
    """Objects may be called anything, but none leads out of the folder of the results."""
    below = posixpath.normpath(f"/{below}").lstrip("/")
    return re.sub(r"[\\:]", "_", below) if os.name == "nt" else below


def pictures_in(folder: Path) -> list[Path]:
    """What is named like a picture, directly in the folder, but for hidden files. Raises `InputError`."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [path for path in paths if is_picture_name(path.name) and not is_folder(path)]


def is_picture_name(name: str) -> bool:
    return not name.startswith(".") and PurePath(name).suffix.lower() in codecs.SUFFIXES


def _deep(folder: Path, below: str, left_out: str | None) -> Iterator[Found]:
    """A folder's pictures, then those in each of its folders; folders that are hidden, or links, which may lead in circles,
    are not looked into."""
    for path in pictures_in(folder):
        yield Found(str(path), below + path.name)
    for deeper in _folders_in(folder):
        if same_file_key(deeper) != left_out:
            yield from _deep(deeper, f"{below}{deeper.name}/", left_out)


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))
    return [folder / name for name in names]


def fixed_below(path: Path, pattern: str) -> str:
    """What of the path lies below those folders that the pattern names without a wildcard."""
    parts = Path(pattern).parts[:-1]
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(path.parts[fixed:])


def listed(text: str) -> Found:
    """A list's picture: a relative path goes below OUT as it is, an absolute one without its root, as does one that leads
    up and out of this folder; a URL without what is before `://`."""
    if SCHEME.match(text):
        place = place_of(text)
        if isinstance(place, Url):
            return Found(text, kept_inside(place.path))
        text = str(place)
    path = os.path.normpath(text)
    if path.startswith("..") and PurePath(path).parts[0] == "..":
        path = os.path.abspath(path)  # noqa: PTH100  a link stays where it is
    below = os.path.splitdrive(path)[1].replace(os.sep, "/").lstrip("/")
    return Found(text, below)

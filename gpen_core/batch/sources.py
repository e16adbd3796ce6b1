"""The images that the arguments of a run stand for, one after the other: none but the names of one folder, or those
that match one pattern, are held at once; of object stores, those in one folder with all that lies deeper."""

from __future__ import annotations

import glob
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath

from ..errors import InputError, OptionsError
from ..images import formats
from . import input_list, remote
from .file_keys import same_file_key
from .locations import URL_SCHEME, Location, Url, is_folder, parse_location

log = logging.getLogger(__name__)

MAX_FOLDERS = 1000
"""Folders that are looked into for images that lie deeper than was asked for."""
NO_SUFFIX, OTHER_SUFFIXES = "without a suffix", "others"
MAX_SUFFIXES = 100  # that are counted each by itself


@dataclass(frozen=True)
class InputItem:
    """An image, and what its result is called below the folder that results go to (`/` between folders). As text: of
    millions, making a `Path` of each takes longer than all the rest."""

    source: str
    relative_path: str

    @classmethod
    def from_location(cls, location: Location) -> InputItem:
        """Its result goes directly below OUT."""
        return cls(str(location), location.name)


@dataclass(frozen=True)
class Sources:
    """What a run was asked to restore."""

    arguments: tuple[str, ...] = ()
    """Files, folders and glob patterns, also as URLs. Names that stand for nothing stay in: reading them says why."""
    listing: Path | None = None
    """A list of images, see `lists`. Their results keep the whole path below OUT, so that where one goes depends on
    nothing else that is in the list."""
    recursive: bool = False
    """What lies deeper in folders, too; their structure, and that below a pattern's fixed part, is kept."""
    excluded: Location | None = None
    """A folder that is not looked into on the way: that of the results."""
    left_out: Counter[str] = field(default_factory=Counter, compare=False)
    """How many files of the folders are no images that this installation reads, by suffix in small letters. Counted while
    the images are gone through."""

    def __str__(self) -> str:
        return ", ".join((*self.arguments, *([] if self.listing is None else [str(self.listing)])))

    def no_images_text(self) -> str:
        """What to say where nothing was found."""
        if self.listing is not None:
            return f"No images in {self}."
        return no_images_text(self.arguments, self.recursive)

    def __iter__(self) -> Iterator[InputItem]:
        """In order; an image that is named twice comes twice. Raises `OptionsError` for an empty name and `InputError`
        for a folder or list that cannot be read."""
        empty, found = [], False
        self.left_out.clear()
        for argument in self.arguments:
            is_empty = True
            for one in self._expand(argument):
                is_empty = False
                yield one
            found = found or not is_empty
            empty += [argument] * is_empty
        if self.listing is not None:
            for text in input_list.read(self.listing):
                yield from_list(text)
                found = True
        if empty and found:  # with nothing found, the caller has that to say
            log.warning("%s", no_images_text(empty, self.recursive))
        if self.left_out:
            log.warning("Left out: %s.", left_out_text(self.left_out))

    def _expand(self, argument: str) -> Iterable[InputItem]:
        if not argument:
            raise OptionsError("An input has an empty name. Name an image, a folder (. is this one) or a pattern.")
        path = parse_location(argument)
        if isinstance(path, Url):
            return self._remote_items(path)
        if is_folder(path):
            return self._folder_items(path)
        if "\0" not in argument and not os.path.lexists(path) and glob.has_magic(argument):
            return self._glob_items(argument) or [InputItem.from_location(path)]
        return [InputItem.from_location(path)]

    def _folder_items(self, top: Path) -> Iterator[InputItem]:
        if not self.recursive:
            return map(InputItem.from_location, image_files(top, self.left_out))
        excluded = same_file_key(self.excluded) if isinstance(self.excluded, Path) else None
        return self._walk(top, "", excluded)

    def _walk(self, folder: Path, prefix: str, excluded: str | None) -> Iterator[InputItem]:
        """A folder's images, then those in each of its folders; folders that are hidden, or links, which may lead in
        circles, are not looked into."""
        for path in image_files(folder, self.left_out):
            yield InputItem(str(path), prefix + path.name)
        for subfolder in _subfolders(folder):
            if same_file_key(subfolder) != excluded:
                yield from self._walk(subfolder, f"{prefix}{subfolder.name}/", excluded)

    def _glob_items(self, pattern: str) -> list[InputItem]:
        paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if not is_folder(p)]
        return [InputItem(str(path), below_static_prefix(path, pattern) if self.recursive else path.name) for path in paths]

    def _remote_items(self, url: Url) -> list[InputItem]:
        """Where a name is an image's, nobody is asked whether it is there."""
        if url.is_pattern:
            return self._remote_glob_items(url) or [InputItem(url.text, url.name)]
        if url.name and (is_image_name(url.name) or not remote.is_folder(url)):
            return [InputItem(url.text, url.name)]
        return self._remote_folder_items(url)

    def _remote_glob_items(self, url: Url) -> list[InputItem]:
        fixed = 0
        if self.recursive:
            parts = remote.object_key(url).split("/")[:-1]
            fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        found = [Url(text) for text in remote.glob(url)]
        relative_paths = [
            "/".join(remote.object_key(one).split("/")[fixed:]) if self.recursive else one.name for one in found
        ]
        return [InputItem(one.text, safe_relative_path(name)) for one, name in zip(found, relative_paths)]

    def _remote_folder_items(self, url: Url) -> list[InputItem]:
        excluded = f"{remote.object_key(self.excluded).rstrip('/')}/" if isinstance(self.excluded, Url) else None
        found = []
        for relative_path in remote.list_files(url, self.recursive):
            one = url / relative_path
            *folders, name = relative_path.split("/")
            is_hidden = any(folder.startswith(".") for folder in folders)
            is_excluded = excluded is not None and remote.object_key(one).startswith(excluded)
            if is_hidden or is_excluded:
                continue
            if _is_readable(name, self.left_out):
                found.append(InputItem(one.text, safe_relative_path(relative_path)))
        return found


def safe_relative_path(path: str) -> str:
    """Objects may be called anything, but none leads out of the folder of the results."""
    path = posixpath.normpath(f"/{path}").lstrip("/")
    return re.sub(r"[\\:]", "_", path) if os.name == "nt" else path


def image_files(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """What is named like an image that is read here, directly in the folder, but for hidden files; `left_out` counts the
    others. Raises `InputError`."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [folder / name for name in names if _is_readable(name, Counter() if left_out is None else left_out)]


def is_image_name(name: str) -> bool:
    """Whether it is named like an image of a kind that can be read, here or with another package."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in formats.INPUT_SUFFIXES


def _is_readable(name: str, left_out: Counter[str]) -> bool:
    """False for hidden files, and for others that `left_out` then counts."""
    if name.startswith("."):
        return False
    suffix = PurePath(name).suffix.lower()
    format_name = formats.INPUT_SUFFIXES.get(suffix)
    if format_name is not None and formats.missing_reader(format_name) is None:
        return True
    kind = suffix or NO_SUFFIX
    left_out[kind if kind in left_out or len(left_out) < MAX_SUFFIXES else OTHER_SUFFIXES] += 1
    return False


def left_out_text(left_out: Counter[str]) -> str:
    """`3 .heic (pip install "sd-gpen[heif]" reads them), 1 .txt`: the most frequent first."""
    parts = []
    for suffix, count in left_out.most_common():
        format_name = formats.INPUT_SUFFIXES.get(suffix)
        missing = None if format_name is None else formats.missing_reader(format_name)
        parts.append(f"{count} {suffix}" + (f" ({missing})" if missing else ""))
    return ", ".join(parts)


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))
    return [folder / name for name in names]


def below_static_prefix(path: Path, pattern: str) -> str:
    """What of the path lies below those folders that the pattern names without a wildcard."""
    parts = Path(pattern).parts[:-1]
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(path.parts[fixed:])


def no_images_text(arguments: Iterable[str], recursive: bool) -> str:
    """What to say of inputs that hold no images."""
    names = list(arguments)
    deeper = [] if recursive else [name for name in names if is_folder(name) and _has_images_below(name)]
    if deeper:
        return f"No images in {', '.join(deeper)}, but in folders below. Use --recursive."
    patterns = [name for name in names if glob.has_magic(name) and not os.path.lexists(name)]
    if patterns == names:
        return f"No file matches {', '.join(names)}."
    return f"No images ({', '.join(formats.readable_suffixes())}) in {', '.join(names)}."


def _has_images_below(folder: str) -> bool:
    return any(is_image_name(name) for _, _, names in islice(os.walk(folder), MAX_FOLDERS) for name in names)


def from_list(text: str) -> InputItem:
    """A list's image: a relative path goes below OUT as it is, an absolute one without its root, as does one that leads
    up and out of this folder; a URL without what is before `://`."""
    if URL_SCHEME.match(text):
        location = parse_location(text)
        if isinstance(location, Url):
            return InputItem(text, safe_relative_path(location.path))
        text = str(location)
    path = os.path.normpath(text)
    if path.startswith("..") and PurePath(path).parts[0] == "..":
        path = os.path.abspath(path)  # noqa: PTH100  a link stays where it is
    relative_path = os.path.splitdrive(path)[1].replace(os.sep, "/").lstrip("/")
    return InputItem(text, relative_path)

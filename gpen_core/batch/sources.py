"""Find the images that the arguments of a run mean, one after the other.

Memory holds the names in one folder, or those that match one pattern, at a time. For object stores, it holds the names in
one folder including its subfolders."""

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
from ..progress import pluralize
from . import input_list, remote
from .file_keys import same_file_key
from .locations import URL_SCHEME, Location, Url, is_folder, parse_location

log = logging.getLogger(__name__)

MAX_FOLDERS = 1000
"""Number of subfolders that are searched for images to suggest --recursive."""
NO_SUFFIX, OTHER_SUFFIXES = "without a suffix", "others"
SUBFOLDERS = "subfolders"
MAX_SUFFIXES = 100  # counted separately; the rest is counted together


@dataclass(frozen=True)
class InputItem:
    """An image, and the path of its result below the output folder, with `/` between folders.

    Both are text, because creating millions of `Path` objects would take most of the time."""

    source: str
    relative_path: str

    @classmethod
    def from_location(cls, location: Location) -> InputItem:
        """An item whose result is directly in OUT."""
        return cls(str(location), location.name)


@dataclass(frozen=True)
class Sources:
    """The requested inputs of a run."""

    arguments: tuple[str, ...] = ()
    """Files, folders and patterns, also as URLs. Names of missing files are kept, because reading them raises the error."""
    listing: Path | None = None
    """A list of images, see `input_list`. Their results keep the whole path below OUT, so each is independent of the rest of
    the list."""
    recursive: bool = False
    """Whether to include subfolders. Their structure, and that below the fixed part of a pattern, is kept."""
    excluded: Location | None = None
    """A folder that is not looked into on the way: that of the results."""
    left_out: Counter[str] = field(default_factory=Counter, compare=False)
    """Number of files that this installation cannot read, by lowercase suffix, and of subfolders with images that are not
    searched. Counted during iteration."""

    def __str__(self) -> str:
        return ", ".join((*self.arguments, *([] if self.listing is None else [str(self.listing)])))

    def no_images_text(self) -> str:
        """Return the error message for a run without images."""
        if self.listing is not None:
            return f"No images in {self}."
        return no_images_text(self.arguments, self.recursive)

    def __iter__(self) -> Iterator[InputItem]:
        """Yield the images in order, with duplicates. Raises `OptionsError` for an empty name, and `InputError` for an
        unreadable folder or list."""
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
        if empty and found:  # if nothing is found, the caller reports it
            log.warning("%s", no_images_text(empty, self.recursive))
        if self.left_out:
            log.warning("Left out: %s.", left_out_text(self.left_out))

    def _expand(self, argument: str) -> Iterable[InputItem]:
        if not argument:
            raise OptionsError("An input has an empty name. Name an image, a folder (. is the current one) or a pattern.")
        path = parse_location(argument)
        if isinstance(path, Url):
            return self._remote_items(path)
        if is_folder(path):
            return self._folder_items(path)
        if "\0" not in argument and not os.path.lexists(path) and glob.has_magic(argument):
            return self._glob_items(argument) or [InputItem.from_location(path)]
        return [InputItem.from_location(path)]

    def _folder_items(self, top: Path) -> Iterator[InputItem]:
        excluded = same_file_key(self.excluded) if isinstance(self.excluded, Path) else None
        if not self.recursive:
            files = image_files(top, self.left_out)
            others = [one for one in _subfolders(top) if same_file_key(one) != excluded]
            # Without images, the message about the empty folder already suggests --recursive.
            if files and (count := sum(_has_images_below(str(one)) for one in others)):
                self.left_out[SUBFOLDERS] += count
            return map(InputItem.from_location, files)
        return self._walk(top, "", excluded)

    def _walk(self, folder: Path, prefix: str, excluded: str | None) -> Iterator[InputItem]:
        """Yield the images in a folder, then those in its subfolders. Hidden folders are skipped, and so are linked folders,
        which could form cycles."""
        for path in image_files(folder, self.left_out):
            yield InputItem(str(path), prefix + path.name)
        for subfolder in _subfolders(folder):
            if same_file_key(subfolder) != excluded:
                yield from self._walk(subfolder, f"{prefix}{subfolder.name}/", excluded)

    def _glob_items(self, pattern: str) -> list[InputItem]:
        paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if not is_folder(p)]
        return [InputItem(str(path), below_static_prefix(path, pattern) if self.recursive else path.name) for path in paths]

    def _remote_items(self, url: Url) -> list[InputItem]:
        """Return the images of a URL. A URL with an image suffix is not checked for existence."""
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
    """Make the path of an object safe: it cannot leave the output folder, whatever the object is called."""
    path = posixpath.normpath(f"/{path}").lstrip("/")
    return re.sub(r"[\\:]", "_", path) if os.name == "nt" else path


def image_files(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """Return the files directly in a folder that have a readable image suffix and are not hidden. `left_out` counts the
    others. Raises `InputError`."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [folder / name for name in names if _is_readable(name, Counter() if left_out is None else left_out)]


def is_image_name(name: str) -> bool:
    """Whether the suffix is that of an image format that can be read, maybe with another package."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in formats.INPUT_SUFFIXES


def _is_readable(name: str, left_out: Counter[str]) -> bool:
    """Whether a file has a readable image suffix and is not hidden. `left_out` counts other files, except hidden ones."""
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
    """Format the skipped files, most frequent suffix first: `3 .heic (to read them: pip install pillow-heif), 1 .txt`."""
    parts = []
    for suffix, count in left_out.most_common():
        if suffix == SUBFOLDERS:
            parts.append(f"{pluralize(count, 'subfolder')} with images (to read them: --recursive)")
            continue
        format_name = formats.INPUT_SUFFIXES.get(suffix)
        missing = None if format_name is None else formats.missing_reader(format_name)
        parts.append(f"{count} {suffix}" + (f" ({missing})" if missing else ""))
    return ", ".join(parts)


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))
    return [folder / name for name in names]


def below_static_prefix(path: Path, pattern: str) -> str:
    """Return the part of the path below the folders that the pattern names without wildcards."""
    parts = Path(pattern).parts[:-1]
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(path.parts[fixed:])


def no_images_text(arguments: Iterable[str], recursive: bool) -> str:
    """Return the message for inputs without images."""
    names = list(arguments)
    deeper = [] if recursive else [name for name in names if is_folder(name) and _has_images_below(name)]
    if deeper:
        return f"No images in {', '.join(deeper)}, but in subfolders. Use --recursive."
    patterns = [name for name in names if glob.has_magic(name) and not os.path.lexists(name)]
    if patterns == names:
        return f"No file matches {', '.join(names)}."
    return f"No images ({', '.join(formats.readable_suffixes())}) in {', '.join(names)}."


def _has_images_below(folder: str) -> bool:
    return any(is_image_name(name) for _, _, names in islice(os.walk(folder), MAX_FOLDERS) for name in names)


def from_list(text: str) -> InputItem:
    """Return the item of one line of a list.

    The result of a relative path has the same path below OUT. An absolute path loses its root, and so does a path that
    leaves the current folder. A URL loses its scheme."""
    if URL_SCHEME.match(text):
        location = parse_location(text)
        if isinstance(location, Url):
            return InputItem(text, safe_relative_path(location.path))
        text = str(location)
    path = os.path.normpath(text)
    if path.startswith("..") and PurePath(path).parts[0] == "..":
        path = os.path.abspath(path)  # noqa: PTH100  links are not resolved
    relative_path = os.path.splitdrive(path)[1].replace(os.sep, "/").lstrip("/")
    return InputItem(text, relative_path)

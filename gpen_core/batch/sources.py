"""Find the images or videos that the arguments of a run mean, one after the other.

Memory holds the names in one folder, or those that match one pattern, at a time. For object stores, it holds the names in
one folder including its subfolders."""

from __future__ import annotations

import glob
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath

from ..errors import InputError, OptionsError
from ..files.path_checks import URL_SCHEME, is_folder
from ..progress import pluralize
from . import input_list, remote
from .file_keys import same_file_key
from .input_kinds import IMAGES, InputKind
from .locations import Location, Url, parse_location

log = logging.getLogger(__name__)

MAX_FOLDERS = 1000
"""Number of subfolders that are searched to suggest --recursive."""
NO_SUFFIX, OTHER_SUFFIXES = "without a suffix", "others"
SUBFOLDERS = "subfolders"
MAX_SUFFIXES = 100  # counted separately; the rest is counted together


@dataclass(frozen=True)
class InputItem:
    """An input, and the path of its result below the output folder, with `/` between folders.

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
    """The output. A folder is not searched for inputs. A video in a folder of frames is not an input there, so that the
    frames stay one input."""
    left_out: Counter[str] = field(default_factory=Counter, compare=False)
    """Number of files that are of another kind or that this installation cannot read, by lowercase suffix, and of subfolders
    with inputs that are not searched. Counted during iteration."""
    kind: InputKind = IMAGES

    def __str__(self) -> str:
        return ", ".join((*self.arguments, *([] if self.listing is None else [self._listing_text])))

    @property
    def _listing_text(self) -> str:
        return "the standard input" if self.listing == input_list.STANDARD_INPUT else str(self.listing)

    def no_images_text(self) -> str:
        """Return the error message for a run without inputs."""
        if self.listing is not None:
            return f"No {self.kind.noun}s in {self}."
        return no_images_text(self.arguments, self.recursive, self.kind)

    def __iter__(self) -> Iterator[InputItem]:
        """Yield the inputs in order, with duplicates. Raises `OptionsError` for an empty name, and `InputError` for an
        unreadable folder or list."""
        empty, found = [], False
        self.left_out.clear()
        for argument in self.arguments:
            is_empty = True
            for one in self._expand(argument):
                is_empty = False
                yield one
            found = found or not is_empty
            if is_empty:
                empty.append(argument)
        if self.listing is not None:
            for text in input_list.read(self.listing):
                yield from_list(text)
                found = True
        if empty and found:  # if nothing is found, the caller reports it
            log.warning("%s", no_images_text(empty, self.recursive, self.kind))
        if self.left_out:
            log.warning("Left out: %s.", left_out_text(self.left_out, self.kind))

    def _expand(self, argument: str) -> Iterable[InputItem]:
        if not argument:
            raise OptionsError("An input has an empty name. Name a file, a folder (. is the current one) or a pattern.")
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
        if self.kind.is_input_folder(top) and not self._has_others(top, excluded):
            if not self.recursive:
                self._count_subfolders(top, excluded)
            return iter([InputItem(str(top), top.resolve().name)])
        if not self.recursive:
            files = image_files(top, self.left_out, self.kind)
            if files:  # otherwise, the message about the empty folder already suggests --recursive
                self._count_subfolders(top, excluded)
            return map(InputItem.from_location, files)
        return self._walk(top, "", excluded)

    def _has_others(self, top: Path, excluded: str | None) -> bool:
        """Whether a folder that may be one input contains inputs."""
        if any(same_file_key(one) != excluded for one in image_files(top, None, self.kind)):
            return True
        return self.recursive and any(_has_inputs_below(str(one), self.kind) for one in _subfolders(top, excluded))

    def _count_subfolders(self, top: Path, excluded: str | None) -> None:
        if count := sum(_has_inputs_below(str(one), self.kind) for one in _subfolders(top, excluded)):
            self.left_out[SUBFOLDERS] += count

    def _walk(self, folder: Path, prefix: str, excluded: str | None) -> Iterator[InputItem]:
        """Yield the inputs in a folder, then those in its subfolders. Hidden folders are skipped, and so are linked folders,
        which could form cycles."""
        for path in image_files(folder, self.left_out, self.kind):
            yield InputItem(str(path), prefix + path.name)
        for subfolder in _subfolders(folder, excluded):
            yield from self._walk(subfolder, f"{prefix}{subfolder.name}/", excluded)

    def _glob_items(self, pattern: str) -> list[InputItem]:
        found = map(Path, sorted(set(_expand_pattern(pattern))))
        paths = [path for path in found if not is_folder(path) or self.kind.is_input_folder(path)]
        paths = self._outside_output(paths, _static_prefix(pattern)) or paths
        return [InputItem(str(path), below_static_prefix(path, pattern) if self.recursive else path.name) for path in paths]

    def _outside_output(self, paths: list[Path], searched: Path) -> list[Path]:
        """Return the paths that are not in the output, if that is a folder in the searched folder."""
        if not isinstance(self.excluded, Path) or not is_folder(self.excluded):
            return paths
        excluded = Path(same_file_key(self.excluded))
        if Path(same_file_key(searched)) not in excluded.parents:
            return paths
        folders = {folder: Path(same_file_key(folder)) for folder in {path.parent for path in paths}}
        return [path for path in paths if excluded not in (one := folders[path.parent] / path.name, *one.parents)]

    def _remote_items(self, url: Url) -> list[InputItem]:
        """Return the images of a URL. A URL with an image suffix is not checked for existence."""
        if url.is_pattern:
            return self._remote_glob_items(url) or [InputItem(url.text, url.name)]
        if url.name and (self.kind.is_name(url.name) or not remote.is_folder(url)):
            return [InputItem(url.text, url.name)]
        return self._remote_folder_items(url)

    def _remote_glob_items(self, url: Url) -> list[InputItem]:
        pattern = _key_parts(url)
        fixed = _static_length(pattern[:-1])
        names_hidden = any(part.startswith(".") for part in pattern[fixed:])
        excluded = self._excluded_prefix()
        if excluded is not None and pattern[:fixed] != excluded.split("/")[:fixed]:
            excluded = None  # it is not in the searched folder
        in_output: list[InputItem] = []
        others: list[InputItem] = []
        for one in map(Url, remote.glob(url)):
            below = _key_parts(one)[fixed:]
            if any(part.startswith(".") for part in below) and not names_hidden:
                continue
            item = InputItem(one.text, safe_relative_path("/".join(below) if self.recursive else one.name))
            is_output = excluded is not None and remote.object_key(one).startswith(excluded)
            (in_output if is_output else others).append(item)
        return others or in_output

    def _remote_folder_items(self, url: Url) -> list[InputItem]:
        excluded = self._excluded_prefix()
        found = []
        for relative_path in remote.list_files(url, self.recursive):
            one = url / relative_path
            *folders, name = relative_path.split("/")
            is_hidden = any(folder.startswith(".") for folder in folders)
            is_excluded = excluded is not None and remote.object_key(one).startswith(excluded)
            if is_hidden or is_excluded:
                continue
            if _is_readable(name, self.left_out, self.kind):
                found.append(InputItem(one.text, safe_relative_path(relative_path)))
        return found

    def _excluded_prefix(self) -> str | None:
        """Return how the keys of all objects in the output begin; None for a local output."""
        return f"{remote.object_key(self.excluded).rstrip('/')}/" if isinstance(self.excluded, Url) else None


def _key_parts(url: Url) -> list[str]:
    """Return the parts of an object's key, without the archive that contains it."""
    return remote.object_key(url).removesuffix(url.chain).split("/")


def safe_relative_path(path: str) -> str:
    """Make the path of an object safe: it cannot leave the output folder, whatever the object is called."""
    path = posixpath.normpath(f"/{path}").lstrip("/")
    return re.sub(r"[\\:]", "_", path) if os.name == "nt" else path


def image_files(folder: Path, left_out: Counter[str] | None = None, kind: InputKind = IMAGES) -> list[Path]:
    """Return the files directly in a folder that have a readable suffix and are not hidden. `left_out` counts the others.

    Raises `InputError`."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not _is_dir(entry))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return [folder / name for name in names if _is_readable(name, Counter() if left_out is None else left_out, kind)]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, without asking the system again. A link that leads nowhere or to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_readable(name: str, left_out: Counter[str], kind: InputKind) -> bool:
    """Whether a file has a readable suffix and is not hidden. `left_out` counts other files, except hidden ones."""
    if name.startswith("."):
        return False
    suffix = PurePath(name).suffix.lower()
    if suffix in kind.suffixes and kind.missing_reader(suffix) is None:
        return True
    label = suffix or NO_SUFFIX
    left_out[label if label in left_out or len(left_out) < MAX_SUFFIXES else OTHER_SUFFIXES] += 1
    return False


def left_out_text(left_out: Counter[str], kind: InputKind = IMAGES) -> str:
    """Format the skipped files, most frequent suffix first: `3 .heic (to read them: pip install pillow-heif), 1 .txt`."""
    parts = []
    for suffix, count in left_out.most_common():
        if suffix == SUBFOLDERS:
            parts.append(f"{pluralize(count, 'subfolder')} with {kind.noun}s (to read them: --recursive)")
            continue
        missing = kind.missing_reader(suffix)
        parts.append(f"{count} {suffix}" + (f" ({missing})" if missing else ""))
    return ", ".join(parts)


def _subfolders(folder: Path, excluded: str | None) -> list[Path]:
    """Return the folders in a folder, without hidden and linked ones and the one with the key `excluded`."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))
    return [one for name in names if same_file_key(one := folder / name) != excluded]


def _expand_pattern(pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern, some of them twice. `**` skips linked folders, which could form cycles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    depth = parts.index("**")
    below = parts[depth + 1 :]
    for top in glob.glob(str(Path(*parts[:depth]))):
        for folder, subfolders, _ in os.walk(top):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            if not below:
                yield folder
            yield from _expand_pattern(os.path.join(glob.escape(folder), *(below or "*")))


def _static_prefix(pattern: str) -> Path:
    """Return the folders that a pattern names without wildcards."""
    parts = Path(pattern).parts[:-1]
    return Path(*parts[: _static_length(parts)])


def below_static_prefix(path: Path, pattern: str) -> str:
    """Return the part of the path below `_static_prefix`."""
    return "/".join(path.parts[len(_static_prefix(pattern).parts) :])


def _static_length(parts: Sequence[str]) -> int:
    """Return how many parts come before the first one with wildcards."""
    return next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))


def no_images_text(arguments: Iterable[str], recursive: bool, kind: InputKind = IMAGES) -> str:
    """Return the message for arguments without inputs."""
    names = list(arguments)
    deeper = [] if recursive else [name for name in names if is_folder(name) and _has_inputs_below(name, kind, 1)]
    if deeper:
        return f"No {kind.noun}s in {', '.join(deeper)}, but in subfolders. Use --recursive."
    patterns = [name for name in names if glob.has_magic(name) and not os.path.lexists(name)]
    if patterns == names:
        return f"No file matches {', '.join(names)}."
    return f"No {kind.expected or f'{kind.noun}s'} ({', '.join(kind.readable_suffixes)}) in {', '.join(names)}."


def _has_inputs_below(folder: str, kind: InputKind, start: int = 0) -> bool:
    """Return whether a folder or its subfolders contain inputs. If `start` is 1, only its subfolders count."""
    return any(kind.is_name(name) for _, _, names in islice(os.walk(folder), start, MAX_FOLDERS) for name in names)


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

"""Where weights files lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingWeights
from ..optional_packages import require
from ..options import AUTO_MODELS
from .architecture import GPEN, RETINAFACE, detect_architecture
from .catalog import CATALOG, SUFFIXES, Entry, base_name, find_entry
from .onnx_runtime import has_runtime

AnyPath = str | os.PathLike[str]
Folders = AnyPath | Sequence[AnyPath]


def models_dirs(folders: Folders | None = None) -> tuple[Path, ...]:
    """The folders given, else `$GPEN_MODELS_DIR`, else `sd-gpen` in the user's cache directory.

    Files are looked for in each, in that order; what is downloaded goes into the first.
    Raises `MissingDependency` where that directory is asked for and platformdirs is not installed."""
    chosen = folders or os.environ.get("GPEN_MODELS_DIR") or _cache_dir()
    several = [chosen] if isinstance(chosen, (str, os.PathLike)) else chosen
    return tuple(Path(one).expanduser() for one in several)


def _cache_dir() -> Path:
    require("platformdirs")
    import platformdirs  # hosts name their folders, and some do not have it

    # On Windows without a folder of the author's above it and a folder `Cache` below.
    return platformdirs.user_cache_path("sd-gpen", appauthor=False, opinion=False)


def resolve_path(name: str, folders: Sequence[Path]) -> Path | Entry:
    """The weights file meant by `name`: a file's path, or a catalog name, file name or alias looked up in the folders.
    The catalog's entry where that file is not there.

    Case does not matter; a `.safetensors` beside a `.pth` comes first. `MissingWeights` for a name that is neither."""
    path = Path(name).expanduser()
    if os.path.isfile(path):  # Path.is_file raises on names that are too long
        return path
    found = find_file(name, folders) or find_entry(name)
    if found is None:
        raise MissingWeights(
            f"{name!r} is no file, no name in the catalog, and no weights file in {format_folders(folders)}. "
            f"Give a file's path, or one of {', '.join(known.name for known in CATALOG)}."
        )
    return found


def find_file(name: str, folders: Iterable[Path]) -> Path | None:
    """The weights file of that name or entry in these folders; None if it is not there."""
    wanted = _candidate_names(name, find_entry(name))
    for folder in folders:
        files = {path.name.lower(): path for path in _list_files(folder)}
        for candidate in wanted:
            if candidate in files and files[candidate].is_file():
                return files[candidate]
    return None


def fingerprint(name: str, folders: Sequence[Path]) -> tuple[object, ...] | None:
    """Path, bytes and time (ns) of the weights file of that name: another when it is replaced. None if it is not there.

    Of `AUTO_MODELS` those of every network that is there."""
    if name in AUTO_MODELS:
        return tuple(state for one in list_networks(folders) if (state := fingerprint(one, folders))) or None
    path = find_file(name, folders)
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:  # gone in this moment
        return None
    return str(path), status.st_size, status.st_mtime_ns


def needs_onnx_runtime(name: str, folders: Sequence[Path]) -> bool:
    """Whether the weights file of that name is an ONNX file that cannot be converted because ONNX Runtime is missing."""
    path = find_file(name, folders)
    return path is not None and path.suffix.lower() == ".onnx" and not has_runtime()


def download_size(name: str) -> int | None:
    """Bytes of the catalog's file of that name, of some its tensors' alone; None for a name that it has not or whose size
    nobody has published."""
    entry = find_entry(name)
    return None if entry is None else entry.bytes or entry.approximate_bytes


def can_download() -> bool:
    """Whether this copy of the package can. A registry's copy may leave out the files that open connections."""
    return find_spec(".transfer", __package__) is not None


def iter_weights(folders: Iterable[Path]) -> Iterator[Path]:
    """Every weights file there, by its suffix; of ONNX files, which other programs keep there, only GPEN's."""
    for folder in folders:
        yield from (path for path in _list_files(folder) if _is_weights(path))


def _is_weights(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return False
    return suffix != ".onnx" or "gpen" in path.name.lower() or detect_architecture(path) == GPEN


def list_networks(folders: Sequence[Path]) -> list[str]:
    """File names of GPEN networks to choose from: the catalog's, the largest first, then others that are there: by the
    names of their tensors, see `kinds`, or with `gpen` in their own name. A name stays the same once its file is there, so
    that what was saved with it stays valid."""
    networks = sorted((entry for entry in CATALOG if entry.size), key=lambda entry: -(entry.size or 0))
    others = {
        path.name for path in _uncataloged(folders) if "gpen" in path.name.lower() or detect_architecture(path) == GPEN
    }
    return [*(entry.file for entry in networks), *sorted(others)]


def present_sizes(folders: Sequence[Path]) -> tuple[int, ...]:
    """The sizes of the released networks whose files are there, rising."""
    return tuple(sorted(e.size for e in CATALOG if e.size is not None and find_file(e.name, folders) is not None))


def match_network_name(name: str, folders: Sequence[Path]) -> str | None:
    """The one of `list_networks` that a name means: in any capitals, with or without its suffix, and the catalog's names
    and aliases, too. None if there is none: a path is no name."""
    entry = find_entry(name)
    wanted = base_name(name if entry is None else entry.file)
    return next((choice for choice in list_networks(folders) if base_name(choice) == wanted), None)


def list_detectors(folders: Sequence[Path]) -> list[str]:
    """Face detectors to choose from: the catalog's names, then file names of other RetinaFaces that are there."""
    known = [entry.name for entry in CATALOG if entry.name.startswith(RETINAFACE)]
    return [*known, *sorted({path.name for path in _uncataloged(folders) if detect_architecture(path) == RETINAFACE})]


def _uncataloged(folders: Iterable[Path]) -> Iterator[Path]:
    return (path for path in iter_weights(folders) if find_entry(path.name) is None)


def format_folders(folders: Sequence[Path]) -> str:
    return ", ".join(str(folder) for folder in folders)


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _candidate_names(name: str, entry: Entry | None) -> list[str]:
    names = [name] if entry is None else [entry.file, *entry.aliases, entry.name]
    return [one + suffix for suffix in SUFFIXES for one in dict.fromkeys(map(base_name, names))]

"""Finds weights files in the models folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingWeights, OptionsError
from ..files.path_checks import AnyPath
from ..optional_packages import require
from ..options import AUTO_MODELS
from .architecture import GPEN, RETINAFACE, detect_architecture
from .catalog import CATALOG, RESTORE, SUFFIXES, Entry, base_name, find_entry, restoring_networks
from .onnx_runtime import has_runtime

log = logging.getLogger(__name__)

Folders = AnyPath | Sequence[AnyPath]
"""One folder or several, as strings or `os.PathLike`. A leading `~` is expanded."""
Names = AnyPath | Iterable[AnyPath]
"""One name of weights or several, as strings or `os.PathLike`."""


def models_dirs(folders: Folders | None = None) -> tuple[Path, ...]:
    """Return the given folders, or else `$GPEN_MODELS_DIR`, or else `sd-gpen` in the user's cache directory.

    Files are searched in this order. Downloads go into the first folder.
    Raises `MissingDependency` if the cache directory is needed and platformdirs is not installed, and `OptionsError` for the
    home folder of an unknown user."""
    return _to_paths(folders or os.environ.get("GPEN_MODELS_DIR") or _cache_dir())


def _to_paths(folders: Folders) -> tuple[Path, ...]:
    several = [folders] if isinstance(folders, (str, os.PathLike)) else folders
    try:
        return tuple(Path(one).expanduser() for one in several)
    except RuntimeError as error:  # the text is not used, because a folder that is called ~ is dangerous to delete
        names = format_folders([Path(one) for one in several])
        raise OptionsError(f"The home folder in {names} is unknown. Write the whole path of the models folder.") from error


def _cache_dir() -> Path:
    require("platformdirs")
    import platformdirs  # some hosts do not have it, but they always give folders

    # On Windows, without the author's folder above it and the folder `Cache` below it.
    return platformdirs.user_cache_path("sd-gpen", appauthor=False, opinion=False)


def resolve_path(name: str, folders: Sequence[Path]) -> Path | Entry:
    """Return the path of the weights file `name`, or its catalog entry if the file is missing.

    `name` is a path, or a catalog name, file name or alias that is searched in the folders as `find_file` does. Case is
    ignored, and `.safetensors` is preferred to `.pth`. Raises `MissingWeights` for an unknown name."""
    path = expand_home(name)
    if os.path.isfile(path):  # Path.is_file raises for names that are too long, and for links into private folders
        return path
    found = find_file(name, folders) or find_entry(name)
    if found is None:
        raise MissingWeights(
            f"Unknown model {name!r}: it is not a file, and not in {format_folders(folders)}. "
            f"Available: {', '.join(known.name for known in CATALOG)}, or the path of a file."
        )
    return found


def to_names(names: Names) -> list[str]:
    """Return the names as strings. One name alone is a list of one: its letters are not names."""
    return [os.fspath(one) for one in ([names] if isinstance(names, (str, os.PathLike)) else names)]


def expand_home(name: str) -> Path:
    """Replace a leading `~` or `~USER` by the home folder. If it is unknown, the name stays: a file's can begin with `~`."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  Path.expanduser raises


def find_file(name: AnyPath, folders: Folders) -> Path | None:
    """Return the weights file of that name, or of its catalog entry, in these folders, or None.

    Outside the catalog, the file with exactly this name comes first: one with another suffix may be another network."""
    name, folders, entry = os.fspath(name), _to_paths(folders), find_entry(name)
    if entry is None and name.lower().endswith(SUFFIXES):
        files = (path for folder in folders for path in _list_files(folder))
        exact = next((path for path in files if path.name == name and os.path.isfile(path)), None)
        if exact is not None:
            return exact
    wanted = _candidate_names(name, entry)
    for folder in folders:
        by_name = {path.name.lower(): path for path in _list_files(folder)}
        for candidate in wanted:
            if candidate in by_name and os.path.isfile(by_name[candidate]):
                return by_name[candidate]
    return None


def fingerprint(name: AnyPath, folders: Folders) -> tuple[object, ...] | None:
    """Return path, bytes and time (ns) of the weights file of that name, which change when the file is replaced.

    None if there is no such file. For `AUTO_MODELS`, return those of all networks in the folders."""
    if os.fspath(name) in AUTO_MODELS:
        return tuple(state for one in list_networks(folders) if (state := fingerprint(one, folders))) or None
    path = find_file(name, folders)
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:  # just deleted
        return None
    return str(path), status.st_size, status.st_mtime_ns


def needs_onnx_runtime(name: AnyPath, folders: Folders) -> bool:
    """Whether the weights file of that name is an ONNX file that cannot be converted because ONNX Runtime is missing."""
    path = find_file(name, folders)
    return path is not None and path.suffix.lower() == ".onnx" and not has_runtime()


def download_size(name: AnyPath) -> int | None:
    """Return the bytes of the catalog's file of that name; for some files, of the tensors only.

    None for an unknown name or an unknown size."""
    entry = find_entry(name)
    return None if entry is None else entry.known_bytes


def can_download() -> bool:
    """Whether this copy of the package can download. A registry's copy may lack the modules that open connections."""
    return find_spec(".transfer", __package__) is not None


def iter_weights(folders: Folders) -> Iterator[Path]:
    """Yield every weights file, by its suffix. Of ONNX files, which other programs keep there, only GPEN's."""
    for folder in _to_paths(folders):
        yield from (path for path in _list_files(folder) if _is_weights(path))


def catalog_files(folders: Folders) -> tuple[dict[Entry, Path | None], list[Path]]:
    """Return the file of each catalog entry, None if it is missing, and the other weights files."""
    files = {entry: find_file(entry.name, folders) for entry in CATALOG}
    return files, [path for path in iter_weights(folders) if path not in files.values()]


def _is_weights(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not os.path.isfile(path):
        return False
    return suffix != ".onnx" or "gpen" in path.name.lower() or detect_architecture(path) == GPEN


def list_networks(folders: Folders) -> list[str]:
    """Return the file names of GPEN networks: the catalog's that restore, largest first, its others, then
    other files in the folders.

    Other files count if `detect_architecture` finds GPEN or if their name contains `gpen`. A catalog name does not change
    when its file is downloaded, so saved settings stay valid."""
    networks = sorted(
        (entry for entry in CATALOG if entry.size), key=lambda entry: (entry.operation != RESTORE, -(entry.size or 0))
    )
    others = {
        path.name for path in _uncataloged(folders) if "gpen" in path.name.lower() or detect_architecture(path) == GPEN
    }
    return [*(entry.file for entry in networks), *sorted(others)]


def present_sizes(folders: Folders) -> tuple[int, ...]:
    """Return the sizes of the released networks in the folders that restore faces, in ascending order.

    ONNX files that cannot be converted here do not count."""
    found = (entry for entry in restoring_networks() if find_file(entry.name, folders) is not None)
    return tuple(sorted(one.size or 0 for one in found if not needs_onnx_runtime(one.name, folders)))


def match_network_name(name: AnyPath, folders: Folders) -> str | None:
    """Return the entry of `list_networks` for a name, or None. A path is not a name.

    Case and suffix are ignored. Catalog names and aliases are accepted."""
    name, entry = os.fspath(name), find_entry(name)
    wanted = base_name(name if entry is None else entry.file)
    choices = list_networks(folders)
    return name if name in choices else next((choice for choice in choices if base_name(choice) == wanted), None)


def list_detectors(folders: Folders) -> list[str]:
    """Return the face detectors: the catalog's names, then the file names of other RetinaFaces in the folders."""
    known = [entry.name for entry in CATALOG if entry.name.startswith(RETINAFACE)]
    return [*known, *sorted({path.name for path in _uncataloged(folders) if detect_architecture(path) == RETINAFACE})]


def _uncataloged(folders: Folders) -> Iterator[Path]:
    return (path for path in iter_weights(folders) if find_entry(path.name) is None)


def format_folders(folders: Sequence[Path]) -> str:
    return ", ".join(str(folder) for folder in folders)


def _list_files(folder: Path) -> list[Path]:
    """Return the files of a folder. There are none in one that does not exist, and in one that may not be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    except OSError as error:
        log.warning("The models folder %s cannot be read (%s).", folder, error.strerror)
        return []


def _candidate_names(name: str, entry: Entry | None) -> list[str]:
    names = [name] if entry is None else [entry.file, *entry.aliases, entry.name]
    return [one + suffix for suffix in SUFFIXES for one in dict.fromkeys(map(base_name, names))]

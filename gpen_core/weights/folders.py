"""Where weights files lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import MissingWeights
from .catalog import CATALOG, Entry, find_entry

SUFFIXES = (".safetensors", ".pth", ".pt")


def models_dir(given: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder given, else `$GPEN_MODELS_DIR`, else `sd-gpen` in the user's cache directory."""
    chosen = given or environ.get("GPEN_MODELS_DIR")
    return Path(chosen).expanduser() if chosen else _cache_dir(environ) / "sd-gpen"


def _cache_dir(environ: Mapping[str, str]) -> Path:
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def locate(name: str, folder: Path) -> Path:
    """The weights file meant by `name`: a file's path, or a catalog name, file name or alias looked up in `folder`.

    Case does not matter; a `.safetensors` beside a `.pth` comes first. `MissingWeights` says what to put where."""
    path = Path(name).expanduser()
    if os.path.isfile(path):  # Path.is_file raises on names that are too long
        return path
    found = find_in(name, folder)
    if found is not None:
        return found
    entry = find_entry(name)
    if entry is None:
        raise MissingWeights(
            f"{name!r} is no file, no name in the catalog, and no weights file in {folder}. "
            f"Give a file's path, or one of {', '.join(known.name for known in CATALOG)}."
        )
    raise MissingWeights(
        f"{entry.file} ({entry.purpose}) is not in {folder}. Put it there; its publisher has it at {entry.url} "
        f"({entry.licence}). Or name another folder with --models-dir."
    )


def find_in(name: str, folder: Path) -> Path | None:
    """As `locate`, but only in `folder`, and None if it is not there."""
    files = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    return next((files[c] for c in _candidates(name, find_entry(name)) if c in files and files[c].is_file()), None)


def _candidates(name: str, entry: Entry | None) -> list[str]:
    names = [name] if entry is None else [entry.file, *entry.aliases, entry.name]
    stems = [n[: -len(s)] if (s := _suffix(n)) else n for n in (n.lower() for n in names)]
    return [stem + suffix for suffix in SUFFIXES for stem in dict.fromkeys(stems)]


def _suffix(name: str) -> str:
    return next((s for s in SUFFIXES if name.endswith(s)), "")

"""Check what a name of weights means before anything is downloaded or loaded for it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

from ..errors import MissingWeights, WeightsError
from ..options import AUTO_MODELS
from .architecture import GPEN, RETINAFACE, detect_architecture
from .catalog import CATALOG, Entry, base_name, find_entry
from .folders import format_folders, list_detectors, list_networks, resolve_path

MODEL, DETECTOR, UPSCALER, PARSER = "model", "face detector", "upscaler", "face parser"
EMBEDDER = "face embedder"
MAX_SUGGESTIONS = 2
MIN_SIMILARITY = 0.7


def check_name(name: str | PathLike[str], kind: str, folders: Sequence[Path]) -> None:
    """Check that `name` means weights of this `kind` (`MODEL`, `DETECTOR` or `UPSCALER`). The file may be missing.

    Raises `MissingWeights` with the names to choose from for an unknown name, and `WeightsError` for weights that are known
    to be of another kind."""
    text = fspath(name)
    try:
        found = resolve_path(text, folders)
    except MissingWeights as error:
        raise MissingWeights(_unknown_text(text, kind, folders)) from error
    actual = kind_of_entry(found) if isinstance(found, Entry) else _kind_of_file(found)
    if actual is not None and actual != kind:
        options = {MODEL: "model", DETECTOR: "detector", UPSCALER: "upscaler"}
        use = f" (option {options[actual]})" if actual in options else ""
        available = ", ".join(names_of_kind(kind, folders))
        raise WeightsError(f"{text} is {_with_article(actual)}{use}, not {_with_article(kind)}. Available: {available}.")


def kind_of_entry(entry: Entry) -> str:
    """Return what the weights of a catalog entry are."""
    if entry.size is not None:
        return MODEL
    if entry.scale is not None:
        return UPSCALER
    if entry.is_graph:
        return EMBEDDER
    return DETECTOR if entry.name.startswith(RETINAFACE) else PARSER


def names_of_kind(kind: str, folders: Sequence[Path]) -> list[str]:
    """Return the catalog's names of this kind, then other files of it in the models folders."""
    names = [entry.name for entry in CATALOG if kind_of_entry(entry) == kind]
    files = {MODEL: list_networks, DETECTOR: list_detectors}[kind](folders) if kind in (MODEL, DETECTOR) else []
    known = {base_name(one) for entry in CATALOG for one in (entry.name, entry.file)}
    return [*names, *(file for file in files if base_name(file) not in known)]


def suggest(name: str, choices: Sequence[str]) -> str:
    """Return ` Did you mean ...?` with the choices that are spelled like `name`, or an empty text."""
    near = difflib.get_close_matches(base_name(name), choices, MAX_SUGGESTIONS, MIN_SIMILARITY)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _unknown_text(name: str, kind: str, folders: Sequence[Path]) -> str:
    choices = [*(AUTO_MODELS[:1] if kind == MODEL else ()), *names_of_kind(kind, folders)]
    return (
        f"Unknown {kind} {name!r}: neither a file nor a name in {format_folders(folders)}.{suggest(name, choices)} "
        f"Available: {', '.join(choices)}."
    )


def _kind_of_file(path: Path) -> str | None:
    """Return what a file holds by the names of its tensors, or None if they do not tell. A graph is known by its name."""
    entry = find_entry(path.name)
    if entry is not None and entry.is_graph:
        return EMBEDDER
    return {GPEN: MODEL, RETINAFACE: DETECTOR}.get(detect_architecture(path) or "")


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind == UPSCALER else f"a {kind}"

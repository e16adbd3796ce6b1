"""The weights that a restoration needs, and those that are missing. Imports no detector and no HTTP library."""

from __future__ import annotations

from os import fspath

from ..files.path_checks import AnyPath
from ..options import AUTO, DETECTORS, FACE_EMBEDDER, FACE_PARSER, RestoreOptions, required_weights
from ..weights.catalog import Entry, find_entry, network_name
from ..weights.folders import Folders, find_file, models_dirs, present_sizes
from .gpen_runner import parse_auto_model

PARSER_NAME, EMBEDDER_NAME = "parsenet", "sface"


def needed_networks(model: str, folders: Folders) -> tuple[str, ...]:
    """Return the names of the networks that must be downloaded before restoring with `model`.

    For `auto`, none if one of its sizes is downloaded, else the largest, which suits every face. Raises `OptionsError` for
    an `auto:` with an invalid size."""
    sizes = parse_auto_model(model)
    if not sizes:
        return (model,)
    return () if set(sizes) & set(present_sizes(models_dirs(folders))) else (network_name(max(sizes)),)


def parses_mask(options: RestoreOptions, device_type: str) -> bool:
    """Whether masks are parsed on a device of that type, such as `cpu`. `auto` does not parse on the CPU."""
    return options.mask_type == "parse" or (options.mask_type == AUTO and device_type != "cpu")


def missing_weights(
    model: AnyPath,
    options: RestoreOptions | None = None,
    detector: AnyPath = DETECTORS[0],
    models_dir: Folders | None = None,
    device_type: str = "cpu",
) -> tuple[Entry, ...]:
    """Return the catalog entries that restoring with these options would download, the network first.

    `model` and `detector` are those of `FaceRestorer.load`. Names that are not in the catalog cannot be downloaded and are
    skipped. Raises `OptionsError` as `needed_networks` does."""
    options = RestoreOptions.or_default(options)
    folders = models_dirs(models_dir)
    names = [*needed_networks(fspath(model), folders), fspath(detector)]
    if parses_mask(options, device_type) or FACE_PARSER in required_weights(options):
        names.append(PARSER_NAME)
    if FACE_EMBEDDER in required_weights(options):
        names.append(EMBEDDER_NAME)
    entries = (entry for name in names if (entry := find_entry(name)) is not None)
    return tuple(entry for entry in dict.fromkeys(entries) if find_file(entry.name, folders) is None)

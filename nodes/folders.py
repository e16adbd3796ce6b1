"""ComfyUI's model folders: keys are added to, never assigned, so that paths which the user has set up stay."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from ..gpen_core import AUTO_MODELS, SUFFIXES, can_download, find_entry, find_file, list_detectors, list_networks
from ..gpen_core import fingerprint as file_state

log = logging.getLogger(__name__)

INPUT = Path(__file__).resolve().parents[1] / "example_workflows" / "input"
EXAMPLES = tuple(INPUT / name for name in ("gpen_example.jpg", "gpen_example.mp4"))
MODELS = "GPEN"
OTHER_MODELS = ("facerestore_models",)  # read, not written to: ReActor would list a GPEN there and fail with it
DETECTION = "facedetection"
OTHER_DETECTION = ("facedetection_models", "detection")  # facerestore_cf's key; the core's since 0.23


def register() -> None:
    """Adds our folders to what ComfyUI knows."""
    for key in (MODELS, *OTHER_MODELS, DETECTION):
        folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, key))
        suffixes = folder_paths.folder_names_and_paths[key][1]
        if not suffixes:  # ours, or made by extra_model_paths.yaml: any file would be listed
            suffixes.update(SUFFIXES)


def install_examples() -> None:
    """Copies the examples' photograph and video to where Load Image and Load Video find them, once."""
    for example in EXAMPLES:
        target = Path(folder_paths.get_input_directory()) / example.name
        if target.exists() or not example.exists():
            continue
        try:
            shutil.copyfile(example, target)
        except OSError as error:
            log.warning("GPEN: the examples' %s could not be copied to %s (%s).", example.name, target.parent, error)


def model_dirs() -> tuple[Path, ...]:
    """Where GPEN files are looked for; what is missing is fetched into the first."""
    return tuple(path for key in (MODELS, *OTHER_MODELS) for path in _paths(key))


def detection_dirs() -> tuple[Path, ...]:
    """The same for detectors and face parsers."""
    return tuple(path for key in (DETECTION, *OTHER_DETECTION) for path in _paths(key))


def model_choices() -> list[str]:
    """Those of `known_models` that are there or that this copy can fetch. Never decorated: ComfyUI refuses a saved value
    that is not among them."""
    absent = () if can_download() else missing_models()
    return [name for name in known_models() if name not in absent]


def known_models() -> list[str]:
    """`AUTO_MODELS`, then every published network and the user's own."""
    return [*AUTO_MODELS, *list_networks(model_dirs())]


def available_detectors() -> list[str]:
    """File names of detectors, the default first: those that are there or that this copy can fetch; where there are none,
    all, since a list may not be empty."""
    every = known_detectors()
    present = [name for name in every if can_download() or find_file(name, detection_dirs()) is not None]
    return present or every


def known_detectors() -> list[str]:
    """Every published detector and the user's own: names of files, by which the page tells that one is missing."""
    entries = {name: find_entry(name) for name in list_detectors(detection_dirs())}
    return [name if entry is None else entry.file for name, entry in entries.items()]


def missing_models() -> list[str]:
    """Published networks that are not there."""
    return [name for name in list_networks(model_dirs()) if find_file(name, model_dirs()) is None]


def fingerprint(name: str, paths: tuple[Path, ...]) -> str:
    """What changes when another file takes the place of the one of that name; empty where there is none."""
    return " ".join(map(str, file_state(name, paths) or ()))


def _paths(key: str) -> tuple[Path, ...]:
    if key not in folder_paths.folder_names_and_paths:
        return ()
    return tuple(Path(path) for path in folder_paths.get_folder_paths(key))

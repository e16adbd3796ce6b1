"""ComfyUI's model folders. This module adds to the folder keys and never assigns them, so the user's paths are kept."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from ..gpen_core import (
    AUTO_MODELS,
    SUFFIXES,
    DownloadOptions,
    can_download,
    find_entry,
    find_file,
    list_detectors,
    list_networks,
)
from ..gpen_core import fingerprint as file_state

log = logging.getLogger(__name__)

INPUT = Path(__file__).resolve().parents[1] / "example_workflows" / "input"
EXAMPLES = tuple(INPUT / name for name in ("gpen_example.jpg", "gpen_example.mp4"))
MODELS = "GPEN"
OTHER_MODELS = ("facerestore_models",)  # read only: ReActor would list GPEN files there and fail to load them
DETECTION = "facedetection"
AUTO_DETECTOR = "auto"
OTHER_DETECTION = ("facedetection_models", "detection")  # keys of facerestore_cf and of ComfyUI since 0.23


def register() -> None:
    """Register our model folders with ComfyUI."""
    for key in (MODELS, *OTHER_MODELS, DETECTION):
        folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, key))
        suffixes = folder_paths.folder_names_and_paths[key][1]
        if not suffixes:  # empty for a new key: ComfyUI would list any file
            suffixes.update(SUFFIXES)


def install_examples() -> None:
    """Copy the examples' photo and video into ComfyUI's input folder, once."""
    for example in EXAMPLES:
        target = Path(folder_paths.get_input_directory()) / example.name
        if target.exists() or not example.exists():
            continue
        try:
            shutil.copyfile(example, target)
        except OSError as error:
            log.warning("GPEN: could not copy the example %s to %s (%s).", example.name, target.parent, error)


def model_dirs() -> tuple[Path, ...]:
    """Return the folders searched for GPEN files. Missing files are downloaded into the first."""
    return tuple(path for key in (MODELS, *OTHER_MODELS) for path in _paths(key))


def detection_dirs() -> tuple[Path, ...]:
    """Return the folders searched for detectors and face parsers. Missing files are downloaded into the first."""
    return tuple(path for key in (DETECTION, *OTHER_DETECTION) for path in _paths(key))


def model_choices() -> list[str]:
    """Return the `known_models` that are present or can be downloaded. They are plain names, because ComfyUI rejects a saved
    value that is not in the list."""
    absent = () if can_download() else missing_models()
    return [name for name in known_models() if name not in absent]


def known_models() -> list[str]:
    """Return `AUTO_MODELS`, then every published network and the user's own."""
    return [*AUTO_MODELS, *list_networks(model_dirs())]


def detector_choices() -> list[str]:
    """Return `auto`, then the file names of detectors that are present or can be downloaded. ComfyUI reports a missing model
    if a workflow names a file that is not in this list."""
    present = (name for name in _detector_files() if can_download() or find_file(name, detection_dirs()) is not None)
    return [AUTO_DETECTOR, *present]


def known_detectors() -> list[str]:
    """Return `auto`, then every published detector and the user's own."""
    return [AUTO_DETECTOR, *_detector_files()]


def detector_file(choice: str) -> str:
    """Return the file name of a choice. `auto` is the first one that is present or can be downloaded now, else the first."""
    if choice != AUTO_DETECTOR:
        return choice
    files = _detector_files()
    present = (name for name in files if find_file(name, detection_dirs()) is not None)
    return files[0] if is_downloading() else next(present, files[0])


def is_downloading() -> bool:
    """Return whether missing files are downloaded: this copy can, and downloads are not switched off."""
    return can_download() and not DownloadOptions.from_environment().offline


def _detector_files() -> list[str]:
    entries = {name: find_entry(name) for name in list_detectors(detection_dirs())}
    return [name if entry is None else entry.file for name, entry in entries.items()]


def missing_models() -> list[str]:
    """Return the published networks whose files are missing."""
    return [name for name in list_networks(model_dirs()) if find_file(name, model_dirs()) is None]


def fingerprint(name: str, paths: tuple[Path, ...]) -> str:
    """Return text that changes when the file of that name is replaced; empty if there is no such file."""
    return " ".join(map(str, file_state(name, paths) or ()))


def _paths(key: str) -> tuple[Path, ...]:
    if key not in folder_paths.folder_names_and_paths:
        return ()
    return tuple(Path(path) for path in folder_paths.get_folder_paths(key))

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
AUTO_DETECTOR = "auto"
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


def detector_choices() -> list[str]:
    """`auto`, then the file names of those that are there or that this copy can fetch: by a name that is not among them, the
    page tells that a model is missing."""
    present = (name for name in _detector_files() if can_download() or find_file(name, detection_dirs()) is not None)
    return [AUTO_DETECTOR, *present]


def known_detectors() -> list[str]:
    """`auto`, then every published detector and the user's own."""
    return [AUTO_DETECTOR, *_detector_files()]


def detector_file(choice: str) -> str:
    """The file name of a choice. `auto` is the first that is there or can be fetched, else the first of all."""
    return [*detector_choices()[1:], *_detector_files()][0] if choice == AUTO_DETECTOR else choice


def _detector_files() -> list[str]:
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

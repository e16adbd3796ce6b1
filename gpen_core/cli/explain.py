"""`gpen explain`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..options import MASK_TYPES
from .arguments import (
    DEFAULTS,
    detection_arguments,
    local_path,
    look_arguments,
    model_argument,
    models_argument,
    options_of,
    order_argument,
    selection_arguments,
)
from .progress_display import progress_reporter
from .restore import loaded
from .terminal import printable

SUFFIX = ".png"
TEXT = "write pictures of every stage of a photograph's way: found, cut out, restored, masked, put back"


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    explain = commands.add_parser("explain", parents=[shared], help=TEXT, description=f"{TEXT}.")
    add = explain.add_argument
    add("photo", type=local_path, metavar="PHOTO")
    add("-o", "--output", type=local_path, metavar="DIR", required=True, help="a folder for the pictures, which are PNG")
    models_argument(explain)
    model_argument(explain)
    detection_arguments(explain)
    order_argument(explain)
    selection_arguments(explain)
    add("--strength", type=float, default=DEFAULTS.strength, metavar="0..1")
    add("--mask-type", default=DEFAULTS.mask_type, choices=MASK_TYPES)
    look_arguments(explain)
    explain.set_defaults(command=_explain, compile=False)


def _explain(given: argparse.Namespace) -> int:
    from ..files.atomic_write import write_bytes
    from ..images import codecs
    from ..images.image import from_array
    from ..images.metadata import Metadata
    from ..pipeline.inputs import Frame
    from ..tools.explain import stages

    options = options_of(given)
    _spare(given.photo, given.output)
    photo = codecs.read(given.photo)
    restorer = loaded(given, options)
    with progress_reporter(given) as progress:
        (result,) = restorer.restore_all([Frame(photo.picture)], options, progress=progress, keep_crops=True)
    colors = Metadata(icc=photo.metadata.icc)  # the stages' pixels are the photograph's
    for stage in stages(photo.picture, result, options):
        path = given.output / f"{stage.name}{SUFFIX}"
        write_bytes(path, codecs.encode(codecs.Photo(from_array(stage.image), colors, "PNG", lossy=False), "PNG"))
        sys.stdout.write(printable(f"{path}: {stage.text}\n"))
    for number, face in enumerate(result.faces):
        sys.stdout.write(printable(f"face {number}: {face.outcome_text()}\n"))
    return 0


def _spare(photo: Path, folder: Path) -> None:
    """Raises `OptionsError` where a stage of this or another number of faces would be written over the photograph.

    Asked is what lies in the folder: a link there may have a stage's name where the photograph has not."""
    from ..batch.file_keys import same_file_key
    from ..batch.locations import is_folder
    from ..errors import OptionsError, OutputError
    from ..tools.explain import NAMES

    try:
        there = [one.name.lower() for one in folder.iterdir()] if is_folder(folder) else []  # cases may be no other names
    except OSError as error:
        raise OutputError(f"{folder} cannot be looked into: {error.strerror or error}. Name another folder.") from error
    for name in there:
        path = folder / name
        is_stage = name.endswith(SUFFIX) and NAMES.fullmatch(name.removesuffix(SUFFIX))
        if is_stage and same_file_key(path) == same_file_key(photo):
            raise OptionsError(f"{path} is the photograph itself. Name another folder for the pictures.")

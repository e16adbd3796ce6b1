"""`gpen explain`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..options import RestoreOptions
from .arguments import (
    add_device_arguments,
    add_model_argument,
    add_models_dir_argument,
    add_option_arguments,
    options_from_args,
    parse_local_path,
)
from .progress_display import progress_reporter
from .restore import load_restorer
from .terminal import print_summary

SUFFIX = ".png"
HELP = "write images of every stage of a photograph's way: found, cut out, restored, masked, put back"


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    explain = commands.add_parser("explain", parents=[shared], help=HELP, description=f"{HELP}.")
    add = explain.add_argument
    add("photo", type=parse_local_path, metavar="PHOTO")
    add(
        "-o",
        "--output",
        type=parse_local_path,
        metavar="DIR",
        required=True,
        help="a folder for the images, which are PNG",
    )
    add_models_dir_argument(explain)
    add_model_argument(explain)
    add_device_arguments(explain)
    add_option_arguments(explain, RestoreOptions, "selection", "detection", "look")
    explain.set_defaults(command=_explain, compile=False)


def _explain(args: argparse.Namespace) -> int:
    from ..files.atomic_write import write_bytes
    from ..images import codecs
    from ..images.image import from_array
    from ..images.metadata import Metadata
    from ..pipeline.inputs import RestoreInput
    from ..tools.explain import render_stages

    options = options_from_args(args)
    _check_output_dir(args.photo, args.output)
    encoded = codecs.read(args.photo)
    restorer = load_restorer(args, options)
    with progress_reporter(args) as progress:
        (result,) = restorer.restore_batch([RestoreInput(encoded.image)], options, progress=progress, keep_crops=True)
    colors = Metadata(icc=encoded.metadata.icc)  # the stages' pixels are the photograph's
    for stage in render_stages(encoded.image, result, options):
        path = args.output / f"{stage.name}{SUFFIX}"
        write_bytes(path, codecs.encode(codecs.EncodedImage(from_array(stage.image), colors, "PNG", lossy=False), "PNG"))
        print_summary(args, f"{path}: {stage.text}")
    for number, face in enumerate(result.faces):
        print_summary(args, f"face {number}: {face.outcome_text()}")
    for line in [*([] if result.faces else [result.summary]), *result.notes]:
        print_summary(args, line)
    return 0


def _check_output_dir(source: Path, folder: Path) -> None:
    """Raises `OptionsError` where a stage of this or another number of faces would be written over the photograph.

    Asked is what lies in the folder: a link there may have a stage's name where the photograph has not."""
    from ..batch.file_keys import same_file_key
    from ..batch.locations import is_folder
    from ..errors import OptionsError, OutputError
    from ..tools.explain import STAGE_NAME_PATTERN

    try:
        existing = [one.name.lower() for one in folder.iterdir()] if is_folder(folder) else []  # cases may be no other names
    except OSError as error:
        raise OutputError(f"{folder} cannot be looked into: {error.strerror or error}. Name another folder.") from error
    for name in existing:
        path = folder / name
        is_stage = name.endswith(SUFFIX) and STAGE_NAME_PATTERN.fullmatch(name.removesuffix(SUFFIX))
        if is_stage and same_file_key(path) == same_file_key(source):
            raise OptionsError(f"{path} is the photograph itself. Name another folder for the images.")

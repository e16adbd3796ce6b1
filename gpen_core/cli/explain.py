"""`gpen explain`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import RestoreOptions
from .arguments import (
    add_device_arguments,
    add_option_arguments,
    options_from_args,
    parse_local_path,
)
from .model_loading import load_restorer
from .progress_display import progress_reporter
from .read_files import read_files
from .terminal import print_summary

if TYPE_CHECKING:
    from ..batch.read_files import ReadFiles

SUFFIX = ".png"
HELP = "write an image of each step: detection, crops, network, masks, result"
DESCRIPTION = f"""Restores the faces of an image, and {HELP.replace("write", "writes")}.

  gpen explain photo.jpg -o steps/"""


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    explain = commands.add_parser(
        "explain",
        parents=[shared],
        help=HELP,
        description=DESCRIPTION,
    )
    add = explain.add_argument
    add("photo", type=parse_local_path, metavar="PHOTO", help="image with faces")
    add(
        "-o",
        "--output",
        type=parse_local_path,
        metavar="DIR",
        required=True,
        help="folder for the images (PNG)",
    )
    add_device_arguments(explain)
    add_option_arguments(explain, RestoreOptions, "selection", "detection", "look")
    explain.set_defaults(command=_explain, compile=False)


def _explain(args: argparse.Namespace) -> int:
    from ..files.atomic_write import write_bytes
    from ..images import codecs
    from ..pipeline.inputs import RestoreInput
    from ..tools.explain import render_stages

    options = options_from_args(args)
    _check_output_dir(args.output, read_files(args, options, args.photo))
    encoded = codecs.read(args.photo)
    restorer = load_restorer(args, options)
    with progress_reporter(args) as progress:
        (result,) = restorer.restore_batch([RestoreInput(encoded.image)], options, progress=progress, keep_crops=True)
    earlier = _earlier_faces(args.output)
    for stage in render_stages(encoded.image, result, options):
        path = args.output / f"{stage.name}{SUFFIX}"
        write_bytes(path, codecs.encode_array(stage.image, "PNG", encoded.metadata.icc))
        earlier.discard(path)
        print_summary(args, f"{path}: {stage.text}")
    for path in earlier:
        path.unlink(missing_ok=True)
    for number, face in enumerate(result.faces):
        print_summary(args, f"face {number}: {face.outcome_text()}")
    for line in [*([] if result.faces else [result.summary]), *result.notes]:
        print_summary(args, line)
    return 0


def _earlier_faces(folder: Path) -> set[Path]:
    """Return the images of faces that an earlier run wrote, which this run may not replace. Without the first image of a
    run, the folder has none."""
    from ..tools.explain import FIRST_STAGE, STAGE_NAME_PATTERN

    if not (folder / f"{FIRST_STAGE}{SUFFIX}").is_file():
        return set()
    files = (one for one in folder.glob(f"*{SUFFIX}") if one.is_file())
    return {one for one in files if STAGE_NAME_PATTERN.fullmatch(one.stem)}


def _check_output_dir(folder: Path, read: ReadFiles) -> None:
    """Raise `OptionsError` if an image of a step would overwrite one of the files `read`, whatever number of faces is found.

    It checks the files in the folder, because a link there may have a step's name and lead to an input."""
    from ..batch.file_keys import same_file_key
    from ..errors import OutputError
    from ..files.path_checks import is_folder
    from ..tools.explain import FIRST_STAGE, STAGE_NAME_PATTERN

    try:
        existing = (
            [one.name.lower() for one in folder.iterdir()] if is_folder(folder) else []
        )  # names may be case-insensitive
    except OSError as error:
        raise OutputError(f"{folder} cannot be read: {error.strerror or error}. Choose another folder.") from error
    for name in (f"{FIRST_STAGE}{SUFFIX}", *existing):
        if name.endswith(SUFFIX) and STAGE_NAME_PATTERN.fullmatch(name.removesuffix(SUFFIX)):
            read.raise_if_overwritten(folder / name, same_file_key(folder / name))

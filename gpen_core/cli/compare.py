"""`gpen compare`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..options import AUTO, MASK_TYPES, RestoreOptions
from .arguments import (
    add_device_arguments,
    add_option_arguments,
    options_from_args,
)
from .model_loading import downloads_from_args
from .progress_display import progress_reporter
from .read_files import read_files
from .report_text import pixels_text, seconds_text
from .terminal import print_summary

DESCRIPTION = """Restores the faces of an image with each model, strength and mask type, and writes them on one sheet.

  gpen compare photo.jpg -o sheet.png --models gpen-bfr-512,gpen-bfr-2048 --strengths 0.5,1"""


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    compare = commands.add_parser(
        "compare", parents=[shared], help="compare models, strengths and masks on one sheet", description=DESCRIPTION
    )
    add = compare.add_argument
    add("photo", type=Path, metavar="PHOTO", help="image with faces")
    add("-o", "--output", type=Path, metavar="SHEET", required=True, help="image to write, one row per face, model and mask")
    models_help = "networks to compare: names, files or auto (default: %(default)s)"
    add("--models", default=AUTO, metavar="A,B", help=models_help)
    add("--strengths", default="0.5,1", metavar="0,0.5,1", help="one column for each (default: %(default)s)")
    add(
        "--mask-types",
        default="auto",
        metavar="A,B",
        help=f"mask types to compare: {', '.join(MASK_TYPES)} (default: %(default)s)",
    )
    add_device_arguments(compare, with_model=False)
    replaced = ("strength", "mask_type", "min_identity")  # the columns, the rows, and what would change the columns
    add_option_arguments(compare, RestoreOptions, "selection", "detection", "look", without=replaced)
    compare.set_defaults(command=_compare)


def _compare(args: argparse.Namespace) -> int:
    from ..batch.file_keys import same_file_key
    from ..files.atomic_write import write_bytes
    from ..images import codecs, formats
    from ..pipeline.model_set import ModelSet
    from ..pipeline.restorer import FaceRestorer
    from ..tools.compare import CompareGrid, contact_sheet

    start = time.monotonic()
    options = options_from_args(args)
    choices = CompareGrid(_split_list(args.models), _parse_strengths(args.strengths), _split_list(args.mask_types))
    read_files(args, options, args.photo).raise_if_overwritten(args.output, same_file_key(args.output))
    formats.check_output_name(args.output)
    format_name = formats.output_format(args.output, "PNG")
    photo = codecs.read(args.photo)
    with progress_reporter(args) as progress:
        models = ModelSet.load(
            choices.models,
            args.detector,
            models_dir=args.models_dir,
            device=args.device,
            dtype=args.dtype,
            progress=progress,
            downloads=downloads_from_args(args),
        )
        sheet = contact_sheet(FaceRestorer(models), photo.image, choices, options, progress)
    write_bytes(args.output, codecs.encode_array(sheet, format_name, photo.metadata.icc))
    took = seconds_text(time.monotonic() - start)
    print_summary(args, f"{args.output}: {pixels_text(sheet.shape[1], sheet.shape[0])} ({took})")
    return 0


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_strengths(text: str) -> tuple[float, ...]:
    from ..errors import OptionsError

    try:
        return tuple(float(part) for part in _split_list(text))
    except ValueError:
        raise OptionsError(f"strengths is {text!r}; expected numbers from 0 to 1, such as 0,0.5,1.") from None

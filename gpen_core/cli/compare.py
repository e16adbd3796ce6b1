"""`gpen compare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..options import MASK_TYPES
from .arguments import detection_arguments, look_arguments, models_argument, options_of, order_argument, selection_arguments
from .progress_display import progress_reporter
from .report_text import pixels_text
from .terminal import printable


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    compare = commands.add_parser("compare", parents=[shared], help="a sheet of a picture's faces, to choose by eye")
    add = compare.add_argument
    add("photo", type=Path, metavar="PHOTO")
    add("-o", "--output", type=Path, metavar="SHEET", required=True, help="a picture: a row per model and mask")
    add("--models", default="gpen-bfr-2048", metavar="A,B", help="names or files of networks")
    add("--strengths", default="0.5,1", metavar="0,0.5,1", help="a column for each")
    add("--mask-types", default="auto", metavar="A,B", help=f"of {', '.join(MASK_TYPES)}")
    models_argument(compare)
    detection_arguments(compare)
    order_argument(compare)
    selection_arguments(compare)
    look_arguments(compare)
    compare.set_defaults(command=_compare)


def _compare(given: argparse.Namespace) -> int:
    from ..batch.file_keys import same_file_key
    from ..errors import OptionsError
    from ..files.atomic_write import write_bytes
    from ..images import codecs
    from ..images.image import from_array
    from ..images.metadata import Metadata
    from ..pipeline.gpen_runner import sizes_of
    from ..pipeline.model_set import Models
    from ..pipeline.restorer import FaceRestorer
    from ..tools.compare import Choices, contact_sheet
    from ..weights.download_options import DownloadOptions

    options = options_of(given)
    choices = Choices(_words(given.models), _numbers(given.strengths), _words(given.mask_types))
    if any(map(sizes_of, choices.models)):
        raise OptionsError("models is auto; expected the names or files of the networks to compare.")
    if same_file_key(given.output) == same_file_key(given.photo):
        raise OptionsError(f"{given.output} is the photograph itself. Name another file for the sheet.")
    format_name = codecs.format_of(given.output, "PNG")
    photo = codecs.read(given.photo)
    with progress_reporter(given) as progress:
        downloads = DownloadOptions.from_environment(given.offline, given.require_digest)
        models = Models.load(
            choices.models, given.detector, given.models_dir, given.device, given.dtype, progress, downloads, None, None
        )
        sheet = contact_sheet(FaceRestorer(models), photo.picture, choices, options, progress)
    colors = Metadata(icc=photo.metadata.icc)  # the sheet's pixels are the photograph's
    plain = codecs.Photo(from_array(sheet), colors, format_name, lossy=True)
    write_bytes(given.output, codecs.encode(plain, format_name))
    sys.stdout.write(printable(f"{given.output}: {pixels_text(sheet.shape[1], sheet.shape[0])}\n"))
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    from ..errors import OptionsError

    try:
        return tuple(float(part) for part in _words(text))
    except ValueError:
        raise OptionsError(f"strengths is {text!r}; expected numbers from 0 to 1, such as 0,0.5,1.") from None

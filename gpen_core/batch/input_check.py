"""Find unreadable inputs by their names and first bytes, before anything is loaded."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..images import codecs, formats
from ..images.image import DECODE_ERRORS
from ..images.open_file import open_image
from ..video import containers
from .input_kinds import IMAGES
from .job import ImageJob, input_locations
from .locations import Url
from .sources import image_files

MAX_OPENED = 200
"""Number of images whose first bytes are read. After that, only files without an image suffix are opened."""
HEADER_BYTES = 1 << 16


def find_unreadable(
    jobs: Iterable[ImageJob], named: Collection[str] = (), is_done: Callable[[ImageJob], bool] = lambda job: False
) -> dict[str, InputError]:
    """Return the error of each unreadable image, keyed by its source, without jobs that are done.

    It checks the first `MAX_OPENED` images and those in `named`, which the user named instead of their folder. URLs are not
    checked."""
    found = {}
    for number, job in enumerate(jobs):
        if number < MAX_OPENED or str(job.source) in named:
            try:
                check_readable(job, number < MAX_OPENED)
            except InputError as error:
                if is_done(job):
                    continue
                found[str(job.source)] = error
    return found


def check_readable(job: ImageJob, with_header: bool = True) -> None:
    """Raise `InputError` if a file of the job is missing, or its first bytes are not those of a readable format.

    Without `with_header`, files with an image suffix are not opened."""
    for location in input_locations(job):
        if isinstance(location, Url):
            continue
        _check_exists(location)
        if with_header or not IMAGES.is_name(location.name):
            _check_header(location)


def _check_exists(path: Path) -> None:
    if "\0" in str(path) or os.path.lexists(path):
        return
    if glob.has_magic(str(path)):
        raise InputError(f"No file matches {path}.")
    try:
        with open_image(path):
            return
    except InputError as error:
        near = difflib.get_close_matches(path.name, _names_beside(path), 1, 0.8)
        raise InputError(f"{error} Did you mean {path.with_name(near[0])}?" if near else str(error)) from error


def _names_beside(path: Path) -> list[str]:
    try:
        return [one.name for one in image_files(path.parent)]
    except InputError:
        return []


def _check_header(path: Path) -> None:
    with open_image(path) as (file, _):
        start = file.read(HEADER_BYTES)
        file.seek(0)
        if formats.other_kind(start) == "PDF":
            raise InputError(f"{path} is a PDF document. Save its pages as images first, such as PNG.")
        try:
            with formats.open_header(file):
                return
        except UnidentifiedImageError:
            pass
        except InputError as error:  # the package that reads this format is not installed
            raise InputError(f"{path}: {error}") from error
        except (Image.DecompressionBombError, *DECODE_ERRORS):  # a damaged header: reading the image explains it
            return
    if path.suffix.lower() in containers.OUTPUT_FORMATS:
        raise InputError(f"{path} is a video. Restore it with: gpen video {path} -o OUT{path.suffix}")
    try:
        codecs.decode(start)  # raises the reason
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

"""PyAV, imported here only and when first used, and files opened through it.

Everything in this folder keeps to what PyAV 14.2 offers, which ComfyUI asks for; what later versions add is used where it is
there: attachments and data streams, chapters.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra, first_line
from . import matroska
from .limits import DECODER, limit_decoders

log = logging.getLogger(__name__)

FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
    ".nut": "nut",
    ".flv": "flv",
    ".mxf": "mxf",
}
"""FFmpeg's names of the containers that are written."""
MICROSECONDS = 1_000_000  # AV_TIME_BASE: a container's duration


def library() -> Any:
    """PyAV. Raises `MissingExtra` where it is not installed."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise MissingExtra(
            f'To read and write films, PyAV is needed ({first_line(error)}). Install it: pip install "sd-gpen[video]"'
        ) from error
    return av


def create(path: Path, format_: str, time_base: Fraction) -> Any:
    """A container to be written, whose clock counts in `time_base` where it has one of its own."""
    options = dict(matroska.OPTIONS) if format_ in ("matroska", "webm") else {}
    if format_ in ("mp4", "mov"):
        options["movie_timescale"] = str(max(1000, time_base.denominator))  # that of the offset of the first frame
        options["video_track_timescale"] = str(time_base.denominator)
    return library().open(str(path), "w", format=format_, container_options=options)


def knows_chapters() -> bool:
    """Whether this PyAV reads and writes them."""
    return hasattr(library().container.InputContainer, "chapters")


def failures() -> tuple[type[BaseException], ...]:
    """What PyAV raises where a file, a codec or the disk fails."""
    return (library().error.FFmpegError, OSError, ValueError)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The film's container, open to be read. Raises `InputError` if it cannot be opened."""
    if not path.exists():
        raise InputError(f"{path} cannot be read: there is no such file.")
    try:
        container = library().open(str(path), metadata_errors="replace", options=DECODER)
    except failures() as error:
        said = getattr(error, "strerror", None) or first_line(error)
        raise InputError(
            f"{path} cannot be read as a film ({said}). It may be no film, or cut off while it was recorded or copied: get "
            "it anew, or repair it with the program that recorded it."
        ) from error
    with container:
        limit_decoders(container)
        yield container

"""Reading and writing images at local paths and URLs."""

from __future__ import annotations

import os
from pathlib import PurePath

from ..files import atomic_write
from ..images import codecs, formats
from ..images.codecs import EncodedImage
from . import remote
from .locations import Location, Url


def read(location: Location, max_memory: int | None = None, max_pixels: int | None = None) -> EncodedImage:
    """The same as `codecs.read`, also for URLs."""
    if not isinstance(location, Url):
        return codecs.read(location, max_memory, max_pixels)
    return codecs.decode_file(remote.read(location), str(location), max_memory, max_pixels)


def decode_memory(location: Location) -> int:
    """The same as `codecs.required_memory`, also for URLs."""
    return (
        remote.read_header(location, codecs.required_memory_of_file)
        if isinstance(location, Url)
        else codecs.required_memory(location)
    )


def write_bytes(location: Location, data: bytes) -> None:
    """Write the file atomically. Raises `OutputError`, and then the old content is unchanged."""
    if isinstance(location, Url):
        remote.write(location, data)
    else:
        atomic_write.write_bytes(location, data)


def exists(location: Location) -> bool:
    """Whether the file exists. Raises `InputError` if a store does not answer."""
    return remote.is_file(location) if isinstance(location, Url) else os.path.isfile(location)


def format_of(location: Location, fallback: str) -> str:
    """The same as `formats.output_format`, also for URLs."""
    return formats.output_format(PurePath(location.name), fallback)


def is_same_format(base: Location, target: Location, own_format: str | None = None) -> bool:
    """Whether a file of `own_format` can be copied to `target` without encoding it again.

    A file whose suffix is not that of its format is copied to a target with the same suffix."""
    suffix = formats.OUTPUT_SUFFIXES.get(base.suffix.lower())
    return format_of(target, own_format or "") in (own_format, suffix)

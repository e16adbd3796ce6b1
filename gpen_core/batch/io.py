"""Images read and written wherever they lie."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, OutOfMemory
from ..files import atomic_write
from ..images import codecs
from ..images.codecs import EncodedImage
from . import remote
from .locations import Location, Url


def read(location: Location, max_memory: int | None = None) -> EncodedImage:
    """As `codecs.read`."""
    if not isinstance(location, Url):
        return codecs.read(location, max_memory)
    data = remote.read(location)
    try:
        return replace(codecs.decode(data, max_memory), data=data)
    except (InputError, OutOfMemory) as error:
        raise type(error)(f"{location}: {error}") from error


def decode_memory(location: Location) -> int:
    """As `codecs.required_memory`."""
    return (
        remote.read_header(location, codecs.required_memory_of_file)
        if isinstance(location, Url)
        else codecs.required_memory(location)
    )


def write_bytes(location: Location, data: bytes) -> None:
    """`location` holds all of `data` afterwards, or what it held before; `OutputError` in the latter case."""
    if isinstance(location, Url):
        remote.write(location, data)
    else:
        atomic_write.write_bytes(location, data)


def exists(location: Location) -> bool:
    """Whether a file is. Raises `InputError` where a store does not say."""
    return remote.is_file(location) if isinstance(location, Url) else os.path.isfile(location)


def format_of(location: Location, fallback: str) -> str:
    """As `codecs.output_format`."""
    return codecs.output_format(Path(location.name), fallback)

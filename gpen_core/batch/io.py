"""Pictures read and written wherever they lie."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, OutOfMemory
from ..files import atomic_write
from ..images import codecs
from ..images.codecs import Photo
from . import remote
from .locations import Place, Url


def read(place: Place, max_memory: int | None = None) -> Photo:
    """As `codecs.read`."""
    if not isinstance(place, Url):
        return codecs.read(place, max_memory)
    data = remote.read(place)
    try:
        return replace(codecs.decode(data, max_memory), data=data)
    except (InputError, OutOfMemory) as error:
        raise type(error)(f"{place}: {error}") from error


def needed_bytes(place: Place) -> int:
    """As `codecs.needed_bytes`."""
    return remote.looked_into(place, codecs.needed_by) if isinstance(place, Url) else codecs.needed_bytes(place)


def write_bytes(place: Place, data: bytes) -> None:
    """`place` holds all of `data` afterwards, or what it held before; `OutputError` in the latter case."""
    if isinstance(place, Url):
        remote.write(place, data)
    else:
        atomic_write.write_bytes(place, data)


def is_there(place: Place) -> bool:
    """Whether a file is. Raises `InputError` where a store does not say."""
    return remote.is_file(place) if isinstance(place, Url) else os.path.isfile(place)


def format_of(place: Place, fallback: str) -> str:
    """As `codecs.format_of`."""
    return codecs.format_of(Path(place.name), fallback)

"""From a request of the API to its reply, without HTTP."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from functools import partial

from gpen_core import (
    GpenError,
    InputError,
    Interrupted,
    OptionsError,
    OutOfMemory,
    Photo,
    Progress,
    RestoreOptions,
    TooLarge,
    WeightsError,
)

from . import controls, engine, host
from .api_types import RestoreReply, RestoreRequest
from .jobs import Job

LARGEST_BASE64 = 128 << 20  # characters
LARGEST_PICTURE = 64_000_000  # pixels


class UnknownModel(GpenError):
    """No model of that name can be asked for."""


# The first that fits.
STATUS: tuple[tuple[type[GpenError], int], ...] = (
    (UnknownModel, 404),
    (OptionsError, 422),
    (TooLarge, 413),
    (InputError, 400),
    (Interrupted, 409),
    (WeightsError, 503),
    (OutOfMemory, 507),
)


@dataclass(frozen=True)
class Asked:
    """A request whose names and values are known to be good; its pictures are not decoded yet."""

    image: bytes
    original: bytes | None
    model: str
    options: RestoreOptions
    boxes: list[list[float]] | None


def job_for(request: RestoreRequest) -> Job[RestoreReply]:
    """Raises `GpenError` for what cannot be."""
    model = controls.model_named(request.model or controls.default_model())
    if model is None:
        raise UnknownModel(f"There is no model {request.model or controls.default_model()!r}. /gpen/v1/models lists them.")
    original = None if request.original is None else _bytes(request.original, "original")
    asked = Asked(_bytes(request.image, "image"), original, model, request.options(), request.boxes)
    return Job(partial(_restore, asked), len(asked.image) + len(original or b""))


def status_of(error: GpenError) -> int:
    """The HTTP status that says what kind of error it is."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def _restore(asked: Asked, progress: Progress) -> RestoreReply:
    photo = _photo(asked.image, "image")
    original = None if asked.original is None else _photo(asked.original, "original").picture
    with host.in_line():
        progress(0, 0, "Starting")  # the client may have gone while others worked
        result = engine.restore(
            photo.picture, asked.model, asked.options, original=original, boxes=asked.boxes, told=progress
        )
    written = replace(photo, picture=result.picture).to_bytes("PNG")
    return RestoreReply(
        image=base64.b64encode(written).decode("ascii"),
        faces=[face.to_json() for face in result.faces],
        notes=[*result.notes, *photo.left_out],
        model=asked.model,
    )


def _bytes(text: str, what: str) -> bytes:
    if len(text) > LARGEST_BASE64:
        raise TooLarge(f"{what} has {len(text)} characters; {LARGEST_BASE64} are allowed.")
    whole = "".join(text.split())
    try:
        return base64.b64decode(whole.partition(",")[2] or whole, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{what} is no picture in base64 ({error}).") from error


def _photo(data: bytes, what: str) -> Photo:
    try:
        return Photo.from_bytes(data, max_pixels=LARGEST_PICTURE)
    except InputError as error:
        raise type(error)(f"{what}: {error}") from error

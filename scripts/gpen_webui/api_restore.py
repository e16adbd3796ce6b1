"""From a request of the API to its reply, without HTTP."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gpen_core import (
    ErrorConverter,
    GpenError,
    InputError,
    Interrupted,
    OptionsError,
    OutOfMemory,
    Photo,
    Progress,
    ProgressEvent,
    RestoreOptions,
    TooLarge,
    WeightsError,
)

from . import controls, engine, host
from .api_body import LARGEST_BASE64, BadRequest, Stalled, parse
from .budget import Full, Hold
from .job_queue import Job

SPACE = b" \t\r\n\v\f"
LARGEST_PICTURE = 64_000_000  # pixels

_parsing = threading.Lock()  # of one body at a time, which takes several times its length


class UnknownModel(GpenError):
    """No model of that name can be asked for."""


# The first that fits.
STATUS: tuple[tuple[type[GpenError], int], ...] = (
    (UnknownModel, 404),
    (Stalled, 408),
    (BadRequest, 422),
    (Full, 429),
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
    before_swap: bytes | None
    model: str
    options: RestoreOptions
    boxes: list[list[float]] | None


def job_for(body: bytearray, hold: Hold, begin: Callable[[], None] | None = None) -> Job:
    """The job that a body asks for. Empties the body, and `hold` counts what is left.

    `begin` is called when the job's turn comes. Raises `GpenError` for invalid values."""
    with _parsing, _memory_for("the request"):
        request = parse(body)
        given = request.model or controls.default_model()
        model = controls.model_named(given)
        if model is None:
            raise UnknownModel(f"There is no model {given!r}. /gpen/v1/models lists them.")
        before_swap = None if request.before_swap is None else _bytes(request.before_swap, "before_swap")
        asked = Asked(_bytes(request.image, "image"), before_swap, model, request.options(), request.boxes)
    hold.resize(len(asked.image) + len(before_swap or b""))
    return Job(partial(_restore, asked, begin), hold)


def status_of(kind: type[Exception]) -> int:
    """The HTTP status that says what kind of error it is."""
    return next((status for one, status in STATUS if issubclass(kind, one)), 500)


def _restore(asked: Asked, begin: Callable[[], None] | None, progress: Progress) -> bytes:
    """Decodes, restores and encodes when its turn comes, so that the pictures of one request alone are in memory."""
    with host.in_line():
        # The client may have gone while others worked.
        progress(ProgressEvent("read", 0, None, "image", "Reading the image"))
        if begin is not None:
            begin()
        photo = _photo(asked.image, "image")
        before_swap = None if asked.before_swap is None else _photo(asked.before_swap, "before_swap").picture
        result = engine.restore(
            photo.picture, asked.model, asked.options, before_swap=before_swap, boxes=asked.boxes, told=progress
        )
        with _memory_for("the reply"):
            written = replace(photo, picture=result.picture).to_bytes("PNG")
            return _reply(
                written,
                faces=[face.to_json() for face in result.faces],
                notes=[*result.notes, *photo.left_out],
                model=asked.model,
            )


def _reply(image: bytes, **more: Any) -> bytes:
    """A `RestoreReply` as JSON, with few copies of the picture."""
    rest = json.dumps(more, allow_nan=False, separators=(",", ":"))[1:].encode("ascii")
    return b"".join((b'{"image":"', base64.b64encode(image), b'",', rest))


def _bytes(text: str, what: str) -> bytes:
    """Raises `TooLarge`, by the picture's header, before anything is decoded."""
    if len(text) > LARGEST_BASE64:
        raise TooLarge(f"{what} has {len(text)} characters; {LARGEST_BASE64} are allowed.")
    try:
        whole = text.encode("ascii").translate(None, SPACE)
        start = whole.find(b",") + 1
        data = base64.b64decode(whole[start:] or whole, validate=True)
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is no picture in base64 (character {error.start} is not ASCII).") from None
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{what} is no picture in base64 ({error}).") from error
    with _about(what):
        Photo.check_size(data, LARGEST_PICTURE)
    return data


def _photo(data: bytes, what: str) -> Photo:
    with _about(what):
        return Photo.from_bytes(data, max_pixels=LARGEST_PICTURE)


def _memory_for(what: str) -> ErrorConverter:
    problem = f"There is not enough memory for {what}. Send a smaller picture, or retry later."
    return ErrorConverter(lambda error: OutOfMemory(problem) if isinstance(error, MemoryError) else None)


def _about(what: str) -> ErrorConverter:
    return ErrorConverter(lambda error: type(error)(f"{what}: {error}") if isinstance(error, InputError) else None)

"""Turns an API request into a reply, without HTTP."""

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
    EncodedImage,
    ErrorConverter,
    GpenError,
    ImageTooLarge,
    InputError,
    Interrupted,
    MissingDependency,
    OptionsError,
    OutOfMemory,
    Progress,
    ProgressEvent,
    RestoreOptions,
    WeightsError,
    with_references,
)

from . import controls, engine, host
from .api_body import MAX_BASE64_LENGTH, BadRequest, RequestStalled, parse
from .api_types import IMAGE_FIELDS
from .budget import CapacityExceeded, Reservation
from .job_queue import Job

WHITESPACE = b" \t\r\n\v\f"
MAX_PIXELS = 64_000_000  # pixels

_parse_lock = threading.Lock()  # one body at a time: parsing needs several times its length


class UnknownModel(GpenError):
    """There is no model of that name."""


# The first match counts.
HTTP_STATUS: tuple[tuple[type[GpenError], int], ...] = (
    (UnknownModel, 404),
    (RequestStalled, 408),
    (BadRequest, 422),
    (CapacityExceeded, 429),
    (OptionsError, 422),
    (ImageTooLarge, 413),
    (InputError, 400),
    (Interrupted, 409),
    (WeightsError, 503),
    (MissingDependency, 503),
    (OutOfMemory, 507),
)


@dataclass(frozen=True)
class RestoreJob:
    """A validated request. Its images are not decoded yet."""

    images: dict[str, bytes]
    """Encoded images by field, see `IMAGE_FIELDS`."""
    model: str
    options: RestoreOptions
    boxes: list[list[float]] | None


def create_job(body: bytearray, reservation: Reservation, on_start: Callable[[], None] | None = None) -> Job:
    """Create the job of a request body. This empties the body and reduces `reservation` to the size of the images.

    `on_start` is called when the job starts. Raises `GpenError` for invalid values."""
    with _parse_lock, _oom_context("the request"):
        request = parse(body)
        given = request.model or controls.default_model()
        model = controls.find_model(given)
        if model is None:
            raise UnknownModel(f"Unknown model {given!r}. /gpen/v1/models lists the models.")
        options = request.options()
        given_images = ((name, getattr(request, name)) for name in IMAGE_FIELDS)
        images = {name: _decode_base64(text, name) for name, text in given_images if text is not None}
        restore_job = RestoreJob(images, model, options, request.boxes)
    reservation.resize(sum(map(len, images.values())))
    return Job(partial(_restore, restore_job, on_start), reservation)


def http_status(kind: type[Exception]) -> int:
    """Return the HTTP status for a kind of error."""
    return next((status for one, status in HTTP_STATUS if issubclass(kind, one)), 500)


def _restore(job: RestoreJob, on_start: Callable[[], None] | None, progress: Progress) -> bytes:
    """Decode, restore and encode the image in turn, so that only one request has decoded images in memory."""
    with host.queued():
        # Raises if the client disconnected while the job waited.
        progress(ProgressEvent("read", 0, None, "image", "Reading the image"))
        if on_start is not None:
            on_start()
        images = {name: _decode_image(data, name) for name, data in job.images.items()}
        encoded, before_swap = images["image"], images.get("before_swap")
        result = engine.restore(
            encoded.image,
            job.model,
            replace(job.options, faces=with_references(job.options.faces, **_references(images))),
            before_swap=None if before_swap is None else before_swap.image,
            boxes=job.boxes,
            progress=progress,
        )
        with _oom_context("the reply"):
            png = replace(encoded, image=result.image_data).to_bytes("PNG")
            return _reply(
                png,
                faces=[face.to_json() for face in result.faces],
                notes=[*result.notes, *encoded.dropped_note],
                model=job.model,
            )


def _references(images: dict[str, EncodedImage]) -> dict[str, tuple[EncodedImage]]:
    return {name: (images[name],) for name in ("reference", "leave_out") if name in images}


def _reply(image: bytes, **fields: Any) -> bytes:
    """Encode a `RestoreReply` as JSON with few copies of the image."""
    rest = json.dumps(fields, allow_nan=False, separators=(",", ":"))[1:].encode("ascii")
    return b"".join((b'{"image":"', base64.b64encode(image), b'",', rest))


def _decode_base64(text: str, name: str) -> bytes:
    """Decode base64. Raises `InputError`, and `ImageTooLarge` by the image's header, before its pixels are decoded."""
    if len(text) > MAX_BASE64_LENGTH:
        raise ImageTooLarge(
            f"{name} has {len(text):,} characters; the maximum is {MAX_BASE64_LENGTH:,}. Send a smaller image."
        )
    try:
        whole = text.encode("ascii").translate(None, WHITESPACE)
        start = whole.find(b",") + 1
        data = base64.b64decode(whole[start:] or whole, validate=True)
    except UnicodeEncodeError as error:
        raise InputError(f"{name} is not a base64-encoded image (character {error.start} is not ASCII).") from None
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name} is not a base64-encoded image ({error}).") from error
    with _prefix_errors(name):
        EncodedImage.check_size(data, MAX_PIXELS)
    return data


def _decode_image(data: bytes, name: str) -> EncodedImage:
    with _prefix_errors(name):
        return EncodedImage.from_bytes(data, max_pixels=MAX_PIXELS)


def _oom_context(name: str) -> ErrorConverter:
    problem = f"There is not enough memory for {name}. Send a smaller image, or retry later."
    return ErrorConverter(lambda error: OutOfMemory(problem) if isinstance(error, MemoryError) else None)


def _prefix_errors(name: str) -> ErrorConverter:
    return ErrorConverter(lambda error: type(error)(f"{name}: {error}") if isinstance(error, InputError) else None)

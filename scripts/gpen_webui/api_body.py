"""Reads request bodies with a memory limit, and rejects values that a reply could not quote."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
from fastapi import Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from gpen_core import GpenError, ImageTooLarge

from .api_types import IMAGE_FIELDS, BaseRequest, RestoreRequest
from .budget import Reservation

MAX_BASE64_LENGTH = 128 << 20  # characters of one image
MAX_BODY_BYTES = 2 * MAX_BASE64_LENGTH + (1 << 20)  # bytes
MAX_NUMBER = 10**18
MAX_TEXT_LENGTH = 1000  # characters of a string other than an image
MAX_VALUES = 10_000  # per body: 2 bytes of JSON can become a Python object of about 100 bytes
STALL_TIMEOUT = 60.0
VALUE_SEPARATORS = (b",", b"[", b"{")  # a body has at most as many values as separators
SURROGATE = re.compile("[\ud800-\udfff]")


class BadRequest(GpenError):
    """The body is not what the API expects."""


class RequestStalled(GpenError):
    """The client has sent nothing for `STALL_TIMEOUT` seconds."""


async def read(request: Request, reservation: Reservation) -> bytearray:
    """Read the body; `reservation` counts its bytes. Raises `ImageTooLarge`, `CapacityExceeded`, `RequestStalled` and
    `BadRequest`."""
    _expect_json(request.headers.get("content-type", ""))
    content_length = request.headers.get("content-length", "")
    if content_length.isdecimal() and content_length.isascii():
        _check_length(int(content_length[:20]))
        reservation.check(int(content_length[:20]))
    body, chunks = bytearray(), request.stream()
    try:
        while True:
            with anyio.fail_after(STALL_TIMEOUT):
                chunk = await anext(chunks, None)
            if chunk is None:
                return body
            _check_length(len(body) + len(chunk))
            reservation.resize(len(body) + len(chunk))
            body += chunk
    except TimeoutError as error:
        raise RequestStalled(f"Nothing was received for {STALL_TIMEOUT:.0f} seconds. Send the request again.") from error
    except ClientDisconnect as error:
        raise BadRequest("The connection was closed before the whole body was received.") from error


def parse(body: bytearray) -> BaseRequest:
    """Parse a body, which is emptied to free its memory. Raises `BadRequest`."""
    if sum(map(body.count, VALUE_SEPARATORS)) > MAX_VALUES:
        raise BadRequest(f"The body has more than {MAX_VALUES:,} values. Send fewer boxes.")
    try:
        text = str(body, "utf-8-sig")
        body.clear()
        values = json.loads(text)
    except UnicodeDecodeError as error:
        raise BadRequest(f"Expected JSON in UTF-8; byte {error.start} is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"Expected JSON; {error.msg} at character {error.pos}.") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadRequest(f"Expected JSON; {error}") from None
    except RecursionError:
        raise BadRequest("Expected one JSON object; got one that is nested too deeply.") from None
    if not isinstance(values, dict):
        raise BadRequest(f"Expected a JSON object with the field image; got {type(values).__name__}.")
    _check_values(
        [*values, *(value for key, value in values.items() if key not in IMAGE_FIELDS or not isinstance(value, str))]
    )
    return _validate(values)


def _expect_json(content_type: str) -> None:
    """Check the content type like FastAPI does: browsers let other sites send other types without a CORS check."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise BadRequest(f"Expected the header Content-Type: application/json; got {kind!r}.")


def _check_length(length: int) -> None:
    if length > MAX_BODY_BYTES:
        raise ImageTooLarge(f"The body has more than {MAX_BODY_BYTES:,} bytes. Send a smaller image.")


def _check_values(pending: list[Any]) -> None:
    """Raise `BadRequest` for values that no reply could quote: NaN, infinity, long strings, lone surrogates."""
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, (int, float)) and not abs(value) < MAX_NUMBER:
            raise BadRequest(f"Expected finite numbers below {MAX_NUMBER:.0e}, got {str(value)[:20]}.")


def _check_text(text: str) -> None:
    if len(text) > MAX_TEXT_LENGTH:
        raise BadRequest(f"Expected at most {MAX_TEXT_LENGTH} characters; got {len(text)} in {text[:20]!r}...")
    if SURROGATE.search(text):
        raise BadRequest(f"Expected Unicode text; got a lone surrogate in {text[:20]!r}.")


def _validate(values: dict[str, Any]) -> BaseRequest:
    validate = getattr(RestoreRequest, "model_validate", None) or RestoreRequest.parse_obj  # pydantic 2 or 1
    try:
        request: BaseRequest = validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    return request

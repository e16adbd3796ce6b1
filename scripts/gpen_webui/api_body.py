"""Reads the bodies of requests: no more bytes than there is room for, and no values that a reply could not quote."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
from fastapi import Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from gpen_core import GpenError, TooLarge

from .api_types import PICTURES, RestoreRequest
from .budget import Hold

LARGEST_BASE64 = 128 << 20  # characters of one picture
LARGEST_BODY = 2 * LARGEST_BASE64 + (1 << 20)  # bytes
LARGEST_NUMBER = 10**18
LONGEST_TEXT = 1000  # characters of a string that is no picture
MOST_VALUES = 10_000  # in one body: each takes some 100 bytes as a Python object, for as few as 2 bytes sent
STALLED_SECONDS = 60.0
NESTING = (b",", b"[", b"{")  # as many values as these, at most
SURROGATE = re.compile("[\ud800-\udfff]")


class BadRequest(GpenError):
    """The body is not what the API expects."""


class Stalled(GpenError):
    """The client has sent nothing for a while."""


async def read(http: Request, hold: Hold) -> bytearray:
    """The body, which `hold` counts as it arrives. Raises `TooLarge`, `Full`, `Stalled` and `BadRequest`."""
    _expect_json(http.headers.get("content-type", ""))
    announced = http.headers.get("content-length", "")
    if announced.isdecimal() and announced.isascii():
        _check_length(int(announced[:20]))
        hold.check(int(announced[:20]))
    body, chunks = bytearray(), http.stream()
    try:
        while True:
            with anyio.fail_after(STALLED_SECONDS):
                chunk = await anext(chunks, None)
            if chunk is None:
                return body
            _check_length(len(body) + len(chunk))
            hold.resize(len(body) + len(chunk))
            body += chunk
    except TimeoutError as error:
        raise Stalled(f"Nothing was received for {STALLED_SECONDS:.0f} seconds. Send the request again.") from error
    except ClientDisconnect as error:
        raise BadRequest("The connection was closed before the whole body had been received.") from error


def parse(body: bytearray) -> RestoreRequest:
    """The request in a body, which is emptied. Raises `BadRequest`."""
    if sum(map(body.count, NESTING)) > MOST_VALUES:
        raise BadRequest(f"The body has more than {MOST_VALUES} values. Send fewer boxes.")
    try:
        text = str(body, "utf-8-sig")
        body.clear()
        given = json.loads(text)
    except UnicodeDecodeError as error:
        raise BadRequest(f"Expected JSON in UTF-8; byte {error.start} is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"Expected JSON; {error.msg} at character {error.pos}.") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadRequest(f"Expected JSON; {error}") from None
    except RecursionError:
        raise BadRequest("Expected one JSON object; got one that is nested too deeply.") from None
    if not isinstance(given, dict):
        raise BadRequest(f"Expected a JSON object with the field image; got {type(given).__name__}.")
    _check([*given, *(value for key, value in given.items() if key not in PICTURES or not isinstance(value, str))])
    return _request({key: value for key, value in given.items() if key in RestoreRequest.__annotations__})


def _expect_json(content_type: str) -> None:
    """As FastAPI does: a page of another site can send other types without asking the browser's permission."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise BadRequest(f"Expected the header Content-Type: application/json; got {kind!r}.")


def _check_length(length: int) -> None:
    if length > LARGEST_BODY:
        raise TooLarge(f"The body has more than {LARGEST_BODY} bytes. Send a smaller picture.")


def _check(unseen: list[Any]) -> None:
    """Refuses what no reply could quote: numbers that JSON does not have, long strings, halves of surrogate pairs."""
    while unseen:
        value = unseen.pop()
        if isinstance(value, list):
            unseen += value
        elif isinstance(value, dict):
            unseen += [*value, *value.values()]
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, (int, float)) and not abs(value) < LARGEST_NUMBER:
            raise BadRequest(f"Expected finite numbers below {LARGEST_NUMBER:.0e}, got {str(value)[:20]}.")


def _check_text(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise BadRequest(f"Expected at most {LONGEST_TEXT} characters; got {len(text)} in {text[:20]!r}...")
    if SURROGATE.search(text):
        raise BadRequest(f"Expected Unicode text; got half of a surrogate pair in {text[:20]!r}.")


def _request(given: dict[str, Any]) -> RestoreRequest:
    parsed = getattr(RestoreRequest, "model_validate", None) or RestoreRequest.parse_obj  # pydantic 2 or 1
    try:
        request: RestoreRequest = parsed(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    return request

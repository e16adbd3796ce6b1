"""Sends replies in chunks, with a memory limit for all replies and a timeout for clients that stop reading."""

from __future__ import annotations

import anyio
from fastapi import HTTPException
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from .budget import MemoryBudget

RETRY_SECONDS = "10"
MAX_DETAIL_LENGTH = 2000  # characters
STALL_TIMEOUT = 60.0
CHUNK_BYTES = 1 << 20  # bytes
MAX_UNREAD_BYTES = 256 << 20  # bytes of replies that clients have not read yet

reply_budget = MemoryBudget(MAX_UNREAD_BYTES, "Too many results are waiting to be read. Retry later.")


class BudgetedResponse(Response):
    """A JSON reply whose bytes are counted until the client has read them. Clients that stop reading are disconnected."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reservation, body = reply_budget.reserve(), memoryview(self.body)
        reservation.resize(len(body), force=True)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(body), CHUNK_BYTES):
                chunk, more = bytes(body[start : start + CHUNK_BYTES]), start + CHUNK_BYTES < len(body)
                with anyio.fail_after(STALL_TIMEOUT):
                    await send({"type": "http.response.body", "body": chunk, "more_body": more})
        finally:
            reservation.release()


def sanitize_text(text: str) -> str:
    """Shorten the text and escape what UTF-8 cannot encode, such as undecodable bytes of file names."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole if len(whole) <= MAX_DETAIL_LENGTH else f"{whole[: MAX_DETAIL_LENGTH - 3]}..."


def http_error(status: int, detail: str) -> HTTPException:
    """Return the HTTP error for a client, with a Retry-After header for status 429."""
    return HTTPException(status, sanitize_text(detail), headers={"Retry-After": RETRY_SECONDS} if status == 429 else None)

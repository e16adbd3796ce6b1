"""Sends replies: in pieces, to clients that read them, and no more bytes at once than there is room for."""

from __future__ import annotations

import anyio
from fastapi import HTTPException
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from .budget import Budget

RETRY_SECONDS = "10"
LONGEST_DETAIL = 2000  # characters
STALLED_SECONDS = 60.0
PIECE = 1 << 20  # bytes
MOST_SENT = 256 << 20  # bytes of replies that their clients have not read yet

unread = Budget(MOST_SENT, "Clients have too many results left to read. Retry later.")


class Sent(Response):
    """A JSON document whose bytes are counted until the client has read them. A client that reads nothing is cut off."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hold, body = unread.hold(), memoryview(self.body)
        hold.resize(len(body), is_forced=True)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(body), PIECE):
                piece, more = bytes(body[start : start + PIECE]), start + PIECE < len(body)
                with anyio.fail_after(STALLED_SECONDS):
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            hold.release()


def sendable(text: str) -> str:
    """Text that can be sent: not too long, and without what UTF-8 does not have, such as bytes of file names."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole if len(whole) <= LONGEST_DETAIL else f"{whole[: LONGEST_DETAIL - 3]}..."


def refused(status: int, problem: str) -> HTTPException:
    """What a client is told of an error."""
    return HTTPException(status, sendable(problem), headers={"Retry-After": RETRY_SECONDS} if status == 429 else None)

"""The digest that a source publishes of its own file: ModelScope in a listing, Hugging Face in a header."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, replace

from .catalog import Source
from .digest import is_sha256
from .http_stream import Pulse
from .request import Fault, Patience, announced_size, number, request, validator_of

log = logging.getLogger(__name__)

LARGEST_LISTING = 4 << 20
LONGEST_ANSWER = 10.0  # seconds: there is the download itself to wait for


@dataclass(frozen=True)
class Published:
    """What a source says of its file before it is fetched; None where it does not say."""

    sha256: str | None = None
    bytes: int | None = None
    validator: str | None = None


def ask(source: Source, patience: Patience, pulse: Pulse = lambda: None) -> Published:
    """The digest and length that the source publishes. Where it does not answer, nothing is known, which is logged.

    `pulse()` is called while it is waited for; what it raises ends the wait."""
    connect, read, answer = (min(limit, LONGEST_ANSWER) for limit in (patience.connect, patience.read, patience.answer))
    hasty = replace(patience, connect=connect, read=read, answer=answer)
    try:
        known = _from_listing(source, hasty, pulse) if source.listing else _from_headers(source, hasty, pulse)
    except (Fault, ValueError, OSError, RecursionError) as fault:  # the last of JSON that is nested deeply
        log.info("%s did not tell the digest of its file: %s.", source.listing or source.url, fault)
        return Published()
    return known


def _from_listing(source: Source, patience: Patience, pulse: Pulse) -> Published:
    with request("GET", Source(source.listing or "", trusts_http=source.trusts_http), patience, pulse) as response:
        if response.status_code != 200:
            raise Fault(f"answered {response.status_code}")
        text, until = b"", time.monotonic() + patience.answer
        for chunk in response.chunks():
            pulse()
            text += chunk
            if len(text) > LARGEST_LISTING:
                raise Fault("sent an endless listing")
            if time.monotonic() > until:
                raise Fault(f"did not send its listing within {patience.answer:.0f} s")
    content = json.loads(text)
    data = content.get("Data") if isinstance(content, dict) else None
    files = data.get("Files") if isinstance(data, dict) else None
    for file in files if isinstance(files, list) else []:
        if isinstance(file, dict) and file.get("Path") == source.path:
            sha256, size = str(file.get("Sha256")).lower(), number(str(file.get("Size")))
            return Published(sha256 if is_sha256(sha256) else None, size)
    raise Fault(f"has no {source.path} in its listing")


def _from_headers(source: Source, patience: Patience, pulse: Pulse) -> Published:
    """A HEAD request's answer; for a file that lies elsewhere, Hugging Face describes it before it redirects there."""
    with request("HEAD", source, patience, pulse) as response:
        if source.linked_etag:
            sha256 = response.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"').lower()
            size = number(response.headers.get("X-Linked-Size", ""))
            return Published(sha256 if is_sha256(sha256) else None, size)
        if response.status_code != 200:
            raise Fault(f"answered {response.status_code}")
        return Published(None, announced_size(response, 0), validator_of(response))

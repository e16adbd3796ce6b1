"""Fetches the digest that a source publishes for its file: ModelScope in a listing, Hugging Face in a header."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, replace

from .catalog import Source
from .digest import is_sha256
from .http_stream import OnTick
from .request import RetryPolicy, SourceError, content_length, get_validator, parse_number, request

log = logging.getLogger(__name__)

MAX_LISTING_BYTES = 4 << 20
MAX_WAIT = 10.0  # seconds, because the download itself follows


@dataclass(frozen=True)
class RemoteDigest:
    """What a source publishes about its file; None where it publishes nothing."""

    sha256: str | None = None
    bytes: int | None = None
    validator: str | None = None
    """See `request.get_validator`."""


def fetch_info(source: Source, policy: RetryPolicy, on_tick: OnTick = lambda: None) -> RemoteDigest:
    """Fetch the digest and length that the source publishes. If it does not answer, log that and return an empty result.

    `on_tick()` is called while waiting. An exception from it ends the wait."""
    connect, read, answer = (min(limit, MAX_WAIT) for limit in (policy.connect, policy.read, policy.answer))
    short_policy = replace(policy, connect=connect, read=read, answer=answer)
    try:
        known = (
            _from_listing(source, short_policy, on_tick) if source.listing else _from_headers(source, short_policy, on_tick)
        )
    except (SourceError, ValueError, OSError, RecursionError) as fault:  # RecursionError: deeply nested JSON
        log.info("%s did not publish the digest of its file: %s.", source.listing or source.url, fault)
        return RemoteDigest()
    return replace(known, bytes=known.bytes or None)  # some servers give a length of 0 for each HEAD request


def _from_listing(source: Source, policy: RetryPolicy, on_tick: OnTick) -> RemoteDigest:
    with request("GET", Source(source.listing or "", allows_http=source.allows_http), policy, on_tick) as response:
        if response.status_code != 200:
            raise SourceError(f"answered {response.status_code}")
        text, until = b"", time.monotonic() + policy.answer
        for chunk in response.iter_bytes():
            on_tick()
            text += chunk
            if len(text) > MAX_LISTING_BYTES:
                raise SourceError("sent an endless listing")
            if time.monotonic() > until:
                raise SourceError(f"did not send its listing within {policy.answer:.0f} s")
    content = json.loads(text)
    data = content.get("Data") if isinstance(content, dict) else None
    files = data.get("Files") if isinstance(data, dict) else None
    for file in files if isinstance(files, list) else []:
        if isinstance(file, dict) and file.get("Path") == source.path:
            sha256, size = str(file.get("Sha256")).lower(), parse_number(str(file.get("Size")))
            return RemoteDigest(sha256 if is_sha256(sha256) else None, size)
    raise SourceError(f"has no {source.path} in its listing")


def _from_headers(source: Source, policy: RetryPolicy, on_tick: OnTick) -> RemoteDigest:
    """Send a HEAD request. Hugging Face describes a file before it redirects to another server."""
    with request("HEAD", source, policy, on_tick) as response:
        if source.linked_etag:
            sha256 = response.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"').lower()
            size = parse_number(response.headers.get("X-Linked-Size", ""))
            return RemoteDigest(sha256 if is_sha256(sha256) else None, size)
        if response.status_code != 200:
            raise SourceError(f"answered {response.status_code}")
        return RemoteDigest(None, content_length(response, 0), get_validator(response))

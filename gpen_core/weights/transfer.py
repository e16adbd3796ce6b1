"""Downloads the rest of a partial file over HTTP from one source."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from ..progress import Progress, ProgressEvent
from .catalog import Source
from .file_format import is_web_page
from .partial_file import PartialFile
from .request import (
    ConnectError,
    Response,
    RetryableError,
    RetryPolicy,
    SourceError,
    content_length,
    describe_error,
    get_validator,
    request,
)

log = logging.getLogger(__name__)

RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _TooLarge(SourceError):
    """The source sent more bytes than the file can have."""


class Transfer:
    """The download of one source's file into a partial file."""

    def __init__(
        self,
        source: Source,
        max_size: int,
        size: int | None,
        validator: str | None,
        policy: RetryPolicy,
        progress: Progress,
    ) -> None:
        """`size`: the file's known length, or None; `max_size`: its maximum length, both in bytes. If no digest is known,
        every response must have the same `validator` (see `get_validator`)."""
        self.source = source
        self.max_size = size if size is not None else max_size
        self.size = size
        self.validator = validator
        self.policy = policy
        self.progress = progress

    def run(self, partial: PartialFile) -> bool:
        """Complete the file, and return whether one response had all of it. Retry as often as the policy allows.

        Raises `SourceError` if that fails. The partial file then keeps the bytes that were received, unless the source
        did not resume at its end."""
        failures, largest_size, began = 0, partial.size, time.monotonic()
        initial_size = largest_size
        while True:
            try:
                start = partial.size
                self._fetch_rest(partial)
                return start == 0
            except RetryableError as fault:
                # New bytes reset the count only above `min_speed`, measured over all tries and waits.
                is_slow = self.policy.is_slow(partial.size - initial_size, time.monotonic() - began)
                failures = 1 if partial.size > largest_size and not is_slow else failures + 1
                largest_size = max(largest_size, partial.size)
                is_unreachable = isinstance(fault, ConnectError) and largest_size == initial_size
                if failures >= (self.policy.max_connect_tries if is_unreachable else self.policy.max_tries):
                    raise
                wait = self.policy.delay(failures, fault.retry_after)
                log.info("%s: %s; retrying in %.0f s", self.source.url, fault, wait)
                self._wait(wait, partial)

    def _wait(self, seconds: float, partial: PartialFile) -> None:
        while seconds > 0:  # in small steps, so that it can be cancelled
            self._report_waiting(partial.size)
            self.policy.sleep(min(seconds, 0.2))
            seconds -= 0.2

    def _report_waiting(self, done: int) -> None:
        self._report(done, "Waiting for the server")

    def _fetch_rest(self, partial: PartialFile) -> None:
        offset = partial.size
        if self.size is not None and offset == self.size:
            return
        if offset > self.max_size:
            partial.truncate()
            offset = 0
        with request(
            "GET", self.source, self.policy, lambda: self._report_waiting(offset), _range_header(offset)
        ) as response:
            if offset and response.status_code == 416:
                if response.headers.get("Content-Range") == f"bytes */{offset}" and self.size is None:
                    return  # the file is complete
                partial.truncate()
                raise RetryableError("does not have the requested part of the file (416); the download starts over")
            _check_status(response)
            _check_content_type(response)
            if self.validator is not None and get_validator(response) != self.validator:
                partial.truncate()
                raise SourceError("changed the file during the download; run again")
            start = _range_start(response) if response.status_code == 206 else 0
            if start not in (offset, 0):
                partial.truncate()
                raise RetryableError("sent another part of the file than requested; the download starts over")
            self._check_length(response, start)
            if start != offset:
                partial.truncate()
            self._receive(response, partial)

    def _check_length(self, response: Response, offset: int) -> None:
        announced = content_length(response, offset)
        if announced is None:
            return
        if self.size is None:
            if announced > self.max_size:
                raise SourceError(f"announced {announced:,} bytes, far more than the file can have")
            self.size = announced
        elif announced != self.size:
            raise SourceError(f"serves a file of {announced:,} bytes, expected {self.size:,}")

    def _receive(self, response: Response, partial: PartialFile) -> None:
        size = partial.size
        limit = self.max_size if self.size is None else self.size
        try:
            with partial.open_append() as append:
                for chunk in self._iter_bytes(response, size):
                    if size + len(chunk) > limit:
                        raise _TooLarge(f"sent more than the {limit:,} bytes that the file can have")
                    append(chunk)
                    size += len(chunk)
        except _TooLarge:
            partial.truncate()
            raise
        except requests.RequestException as error:
            raise RetryableError(f"closed the connection after {size:,} bytes ({describe_error(error)})") from error
        if self.size is not None and size < self.size:
            raise RetryableError(f"ended after {size:,} of {self.size:,} bytes")
        self.progress(ProgressEvent("download", size, self.size or size, "byte", self._text))

    def _iter_bytes(self, response: Response, done: int) -> Iterator[bytes]:
        """Yield the body in chunks. Report progress and check the speed, even while no data arrives."""
        pace = _StallGuard(self.policy)
        reported_at = 0.0
        for chunk in response.iter_bytes():
            if done == 0 and is_web_page(chunk):
                raise SourceError("sent a web page, not the file")
            if chunk:
                yield chunk
            done += len(chunk)
            pace.check(len(chunk))
            if time.monotonic() - reported_at > 0.1:
                reported_at = time.monotonic()
                self._report(done, self._text)

    def _report(self, done: int, text: str) -> None:
        self.progress(ProgressEvent("download", done, self.size, "byte", text))

    @property
    def _text(self) -> str:
        return f"Downloading from {urlsplit(self.source.url).hostname}"


class _StallGuard:
    """Detects a source that keeps the connection open and sends hardly any data."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.since, self.received = time.monotonic(), 0

    def check(self, count: int) -> None:
        """Add `count` received bytes. Raises `SourceError` if the last window was too slow, see `RetryPolicy.is_slow`."""
        self.received += count
        elapsed = time.monotonic() - self.since
        if self.policy.is_slow(self.received, elapsed):
            raise SourceError(f"sends only {self.received / elapsed:.0f} bytes per second")
        if elapsed >= self.policy.window:
            self.since, self.received = time.monotonic(), 0


def _range_header(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


def _range_start(response: Response) -> int:
    """Return the offset of a partial response in the file, or -1 if its header does not have it."""
    found = re.match(r"bytes ([0-9]{1,15})-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _check_status(response: Response) -> None:
    status = response.status_code
    if status in RETRY_STATUS:
        raise RetryableError(f"answered {status} {response.reason or ''}".strip(), _retry_after(response))
    if status not in (200, 206):
        raise SourceError(f"answered {status} {response.reason or ''}".strip())


def _retry_after(response: Response) -> float:
    """Return the seconds of a Retry-After header, a number or a date (RFC 9110, section 10.2.3); 0 without one."""
    try:
        return float(Retry().parse_retry_after(response.headers.get("Retry-After", "")))
    except (InvalidHeader, ValueError, OverflowError):  # the last two come from numbers with thousands of digits
        return 0.0


def _check_content_type(response: Response) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise SourceError("sent a web page, not the file")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise SourceError(f"sent the file compressed with {encoding}, although the request excluded that")

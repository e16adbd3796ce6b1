"""Fetching over HTTP what a partial file lacks, from one source."""

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
    Fault,
    NobodyThere,
    PassingFault,
    Patience,
    Response,
    announced_size,
    describe,
    request,
    validator_of,
)

log = logging.getLogger(__name__)

WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)


class _TooMuch(Fault):
    """More than the file can have."""


class Transfer:
    """One source's file on its way into a partial file."""

    def __init__(
        self,
        source: Source,
        largest: int,
        size: int | None,
        validator: str | None,
        patience: Patience,
        progress: Progress,
    ) -> None:
        """`size` is the file's length in bytes where it is known, `largest` what it cannot exceed; `validator` is what
        the source's answers must go on to say of the file (see `validator_of`) where no digest tells."""
        self.source = source
        self.largest = size if size is not None else largest
        self.size = size
        self.validator = validator
        self.patience = patience
        self.progress = progress

    def run(self, partial: PartialFile) -> bool:
        """Completes the file; says whether it came in one piece. Raises `Fault` when the source does not serve it, in
        spite of several tries.

        The partial holds what came then; it was begun anew where the source did not go on where it ended."""
        failures, most, began = 0, partial.size, time.monotonic()
        at_first = most
        while True:
            try:
                start = partial.size
                self._fetch_rest(partial)
                return start == 0
            except PassingFault as fault:
                # What a source sends earns it new tries only at the slowest pace, over all tries and waits together.
                is_slow = self.patience.is_slow(partial.size - at_first, time.monotonic() - began)
                failures = 1 if partial.size > most and not is_slow else failures + 1
                most = max(most, partial.size)
                is_unheard = isinstance(fault, NobodyThere) and most == at_first
                if failures >= (self.patience.tries_unheard if is_unheard else self.patience.tries):
                    raise
                wait = self.patience.wait_before(failures, fault.wait)
                log.info("%s: %s; trying again in %.0f s", self.source.url, fault, wait)
                self._wait(wait, partial)

    def _wait(self, seconds: float, partial: PartialFile) -> None:
        while seconds > 0:  # in small steps, so that it can be cancelled
            self._wait_at(partial.size)
            self.patience.sleep(min(seconds, 0.2))
            seconds -= 0.2

    def _wait_at(self, done: int) -> None:
        self._report(done, "Waiting for the server")

    def _fetch_rest(self, partial: PartialFile) -> None:
        offset = partial.size
        if self.size is not None and offset == self.size:
            return
        if offset > self.largest:
            partial.truncate()
            offset = 0
        with request("GET", self.source, self.patience, lambda: self._wait_at(offset), _range(offset)) as response:
            if offset and response.status_code == 416:
                if response.headers.get("Content-Range") == f"bytes */{offset}" and self.size is None:
                    return  # there is no more than this
                partial.truncate()
                raise PassingFault("has no such part of the file (416); it was begun anew")
            _refuse_status(response)
            _refuse_type(response)
            if self.validator is not None and validator_of(response) != self.validator:
                partial.truncate()
                raise Fault("changed the file while it was being fetched; run again")
            start = _start(response) if response.status_code == 206 else 0
            if start not in (offset, 0):
                partial.truncate()
                raise PassingFault("sent another part of the file than it was asked for; it was begun anew")
            self._refuse_length(response, start)
            if start != offset:
                partial.truncate()
            self._receive(response, partial)

    def _refuse_length(self, response: Response, offset: int) -> None:
        announced = announced_size(response, offset)
        if announced is None:
            return
        if self.size is None:
            if announced > self.largest:
                raise Fault(f"announces {announced:,} bytes, far more than the file can have")
            self.size = announced
        elif announced != self.size:
            raise Fault(f"serves a file of {announced:,} bytes, expected {self.size:,}")

    def _receive(self, response: Response, partial: PartialFile) -> None:
        size = partial.size
        limit = self.largest if self.size is None else self.size
        try:
            with partial.open_append() as append:
                for chunk in self._chunks(response, size):
                    if size + len(chunk) > limit:
                        raise _TooMuch(f"sent more than the {limit:,} bytes that the file can have")
                    append(chunk)
                    size += len(chunk)
        except _TooMuch:
            partial.truncate()
            raise
        except requests.RequestException as error:
            raise PassingFault(f"broke off after {size:,} bytes ({describe(error)})") from error
        if self.size is not None and size < self.size:
            raise PassingFault(f"ended after {size:,} of {self.size:,} bytes")
        self.progress(ProgressEvent("download", size, self.size or size, "byte", self._text))

    def _chunks(self, response: Response, done: int) -> Iterator[bytes]:
        """The body in pieces, with progress told and the pace watched in between, also while nothing comes."""
        pace = _Pace(self.patience)
        told = 0.0
        for chunk in response.chunks():
            if done == 0 and is_web_page(chunk):
                raise Fault("sent a web page, not the file")
            if chunk:
                yield chunk
            done += len(chunk)
            pace.check(len(chunk))
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                self._report(done, self._text)

    def _report(self, done: int, text: str) -> None:
        self.progress(ProgressEvent("download", done, self.size, "byte", text))

    @property
    def _text(self) -> str:
        return f"Downloading from {urlsplit(self.source.url).hostname}"


class _Pace:
    """Notices a source that keeps the line open and sends next to nothing."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.since, self.received = time.monotonic(), 0

    def check(self, count: int) -> None:
        self.received += count
        elapsed = time.monotonic() - self.since
        if self.patience.is_slow(self.received, elapsed):
            raise Fault(f"sends only {self.received / elapsed:.0f} bytes per second")
        if elapsed >= self.patience.window:
            self.since, self.received = time.monotonic(), 0


def _range(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


def _start(response: Response) -> int:
    """Where a part of the file begins; -1 if the answer does not say."""
    found = re.match(r"bytes ([0-9]{1,15})-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _refuse_status(response: Response) -> None:
    status = response.status_code
    if status in WORTH_A_RETRY:
        raise PassingFault(f"answered {status} {response.reason or ''}".strip(), _wait_asked_for(response))
    if status not in (200, 206):
        raise Fault(f"answered {status} {response.reason or ''}".strip())


def _wait_asked_for(response: Response) -> float:
    """Seconds, from a number or a date (RFC 9110, section 10.2.3); 0 if the source asks for none."""
    try:
        return float(Retry().parse_retry_after(response.headers.get("Retry-After", "")))
    except (InvalidHeader, ValueError, OverflowError):  # the last two of numbers with thousands of digits
        return 0.0


def _refuse_type(response: Response) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise Fault("sent a web page, not the file")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Fault(f"sent the file packed with {encoding}, though asked for it as it is")

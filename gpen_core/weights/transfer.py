"""Fetching over HTTP what a partial file lacks, from one source."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import requests

from ..progress import Progress
from ..version import __version__
from .catalog import Source
from .formats import is_web_page
from .partial import Partial

log = logging.getLogger(__name__)

CHUNK = 1 << 14  # bytes: what a broken line can lose, and how often the work can be cancelled
MOST_REDIRECTS = 8
WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)


class Fault(Exception):
    """A source did not give the file; the text says what it did instead."""


class PassingFault(Fault):
    """One that may be gone on the next try."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait
        """Seconds that the source asks to be left alone."""


class _TooMuch(Fault):
    """More than the file can have."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a source."""

    connect: float = 15.0
    """Seconds to reach it."""
    read: float = 30.0
    """Seconds between two pieces."""
    slowest: float = 1024.0
    """Bytes per second, measured over `window` seconds: less is as good as nothing."""
    window: float = 60.0
    tries: int = 5
    """In a row without a single new byte."""
    first_wait: float = 1.0
    longest_wait: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep)
    jitter: Callable[[], float] = field(default=random.random)

    def wait_before(self, failures: int, asked: float) -> float:
        """Seconds: twice as long each time, a random share of it off so that many clients do not return at once."""
        backed_off = min(self.first_wait * 2.0 ** (failures - 1), self.longest_wait) * (0.5 + self.jitter() / 2)
        return min(max(backed_off, asked), 2 * self.longest_wait)


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

    def run(self, partial: Partial) -> bool:
        """Completes the file; says whether it came in one piece. Raises `Fault` when the source does not serve it, in
        spite of several tries.

        The partial holds what came then; it was begun anew where the source did not go on where it ended."""
        failures, most = 0, partial.size
        while True:
            try:
                start = partial.size
                self._fetch_rest(partial)
                return start == 0
            except PassingFault as fault:
                failures = 1 if partial.size > most else failures + 1
                most = max(most, partial.size)
                if failures >= self.patience.tries:
                    raise
                wait = self.patience.wait_before(failures, fault.wait)
                log.info("%s: %s; trying again in %.0f s", self.source.url, fault, wait)
                self._wait(wait, partial)

    def _wait(self, seconds: float, partial: Partial) -> None:
        while seconds > 0:  # in small steps, so that it can be cancelled
            self.progress(partial.size, self.size or 0, "Waiting for the server")
            self.patience.sleep(min(seconds, 0.2))
            seconds -= 0.2

    def _fetch_rest(self, partial: Partial) -> None:
        offset = partial.size
        if self.size is not None and offset == self.size:
            return
        if offset > self.largest:
            partial.restart()
            offset = 0
        with request("GET", self.source, self.patience, _range(offset)) as response:
            if offset and response.status_code == 416:
                if response.headers.get("Content-Range") == f"bytes */{offset}" and self.size is None:
                    return  # there is no more than this
                partial.restart()
                raise PassingFault("has no such part of the file (416); it was begun anew")
            _refuse_status(response)
            _refuse_type(response)
            if self.validator is not None and validator_of(response) != self.validator:
                partial.restart()
                raise Fault("changed the file while it was being fetched; run again")
            start = _start(response) if response.status_code == 206 else 0
            if start not in (offset, 0):
                partial.restart()
                raise PassingFault("sent another part of the file than it was asked for; it was begun anew")
            self._refuse_length(response, start)
            if start != offset:
                partial.restart()
            self._receive(response, partial)

    def _refuse_length(self, response: requests.Response, offset: int) -> None:
        announced = announced_size(response, offset)
        if announced is None:
            return
        if self.size is None:
            if announced > self.largest:
                raise Fault(f"announces {announced:,} bytes, far more than the file can have")
            self.size = announced
        elif announced != self.size:
            raise Fault(f"serves a file of {announced:,} bytes, expected {self.size:,}")

    def _receive(self, response: requests.Response, partial: Partial) -> None:
        size = partial.size
        limit = self.largest if self.size is None else self.size
        try:
            with partial.appending() as append:
                for chunk in self._chunks(response, size):
                    if size + len(chunk) > limit:
                        raise _TooMuch(f"sent more than the {limit:,} bytes that the file can have")
                    append(chunk)
                    size += len(chunk)
        except _TooMuch:
            partial.restart()
            raise
        except requests.RequestException as error:
            raise PassingFault(f"broke off after {size:,} bytes ({describe(error)})") from error
        if self.size is not None and size < self.size:
            raise PassingFault(f"ended after {size:,} of {self.size:,} bytes")
        self.progress(size, self.size or size, self._text)

    def _chunks(self, response: requests.Response, done: int) -> Iterator[bytes]:
        """The body in pieces, with progress told and the pace watched in between."""
        pace = _Pace(self.patience)
        told = 0.0
        for chunk in response.iter_content(CHUNK):
            if done == 0 and is_web_page(chunk):
                raise Fault("sent a web page, not the file")
            yield chunk
            done += len(chunk)
            pace.check(len(chunk))
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                self.progress(done, self.size or 0, self._text)

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
        if elapsed >= self.patience.window:
            if self.received / elapsed < self.patience.slowest:
                raise Fault(f"sends only {self.received / elapsed:.0f} bytes per second")
            self.since, self.received = time.monotonic(), 0


def request(method: str, source: Source, patience: Patience, headers: dict[str, str] | None = None) -> requests.Response:
    """The answer to a request, redirects followed as long as they lead to https. Proxies come from the environment.

    Raises `PassingFault` where nobody answers, `Fault` for an address or a redirect that is refused."""
    url = source.url
    for hop in range(MOST_REDIRECTS):
        response = send(method, url, patience, headers, allow_http=source.trusts_http and hop == 0)
        if not response.is_redirect or (method == "HEAD" and "X-Linked-Etag" in response.headers):
            return response
        location = response.headers["Location"]
        response.close()
        try:
            url = urljoin(url, location)
            urlsplit(url)
        except ValueError as error:
            raise Fault(f"redirects to what is no address ({error})") from error
    raise Fault(f"redirects more than {MOST_REDIRECTS} times")


def send(
    method: str, url: str, patience: Patience, headers: dict[str, str] | None = None, allow_http: bool = False
) -> requests.Response:
    """One request, its answer's body not read yet, redirects not followed."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (allow_http and scheme == "http"):
        raise Fault(f"leads to {url[:100]}, which is not https")
    agreed = {"User-Agent": f"sd-gpen/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    timeout = (patience.connect, patience.read)
    try:
        return requests.request(method, url, headers=agreed, timeout=timeout, stream=True, allow_redirects=False)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.SSLError) as error:
        raise Fault(f"cannot be asked ({describe(error)})") from error
    except requests.RequestException as error:
        raise PassingFault(f"did not answer ({describe(error)})") from error
    except ValueError as error:  # requests looks at where a redirect leads, followed or not
        raise Fault(f"redirects to what is no address ({error})") from error


def describe(error: requests.RequestException) -> str:
    """What went wrong, in the words of the library that noticed it first."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[-1], BaseException) and cause.args[-1] is not cause:
        cause = cause.args[-1]
    reason = getattr(cause, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else cause)
    text = re.sub(r"^<[^>]*>: |^\S*\(host=[^)]*\): ", "", text).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def announced_size(response: requests.Response, offset: int) -> int | None:
    """The whole file's length as the answer's header has it."""
    if response.status_code == 206:
        total = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
        return number(total[1]) if total else None
    length = number(response.headers.get("Content-Length", ""))
    return None if length is None else length + offset


def number(text: str) -> int | None:
    """A header's number of bytes or seconds; None for what is none, or longer than any can be."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def validator_of(response: requests.Response) -> str | None:
    """What changes when the file does: its entity tag, else its date; None if the source tells neither."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")


def _range(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


def _start(response: requests.Response) -> int:
    """Where a part of the file begins; -1 if the answer does not say."""
    found = re.match(r"bytes ([0-9]{1,15})-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _refuse_status(response: requests.Response) -> None:
    status = response.status_code
    if status in WORTH_A_RETRY:
        asked = number(response.headers.get("Retry-After", "")) or 0
        raise PassingFault(f"answered {status} {response.reason or ''}".strip(), float(asked))
    if status not in (200, 206):
        raise Fault(f"answered {status} {response.reason or ''}".strip())


def _refuse_type(response: requests.Response) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise Fault("sent a web page, not the file")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Fault(f"sent the file packed with {encoding}, though asked for it as it is")

"""One question to a source over HTTP: redirects followed where they may lead, and waited for no longer than `Patience`."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import requests

from ..version import __version__
from .catalog import Source
from .http_stream import Line, Pulse, TooSlow

MOST_REDIRECTS = 8


class Fault(Exception):
    """A source did not give the file; the text says what it did instead."""


class PassingFault(Fault):
    """One that may be gone on the next try."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait
        """Seconds that the source asks to be left alone."""


class NobodyThere(PassingFault):
    """No connection came about: its name is not known, or nothing listens there."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a source."""

    connect: float = 15.0
    """Seconds to reach it."""
    read: float = 30.0
    """Seconds between two bytes."""
    answer: float = 60.0
    """Seconds until an answer's headers are complete, from the question on."""
    slowest: float = 1024.0
    """Bytes per second, measured over `window` seconds, and over all tries together: less is as good as nothing."""
    window: float = 60.0
    tries: int = 5
    """In a row without a single new byte, or below the slowest pace."""
    tries_unheard: int = 2
    """The same where nobody is there and not a byte was ever received: most likely there is no network."""
    first_wait: float = 1.0
    longest_wait: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep)
    jitter: Callable[[], float] = field(default=random.random)

    def is_slow(self, received: int, seconds: float) -> bool:
        """Whether so many bytes in so many seconds are below the slowest pace; never within the first `window`."""
        return seconds >= self.window and received < self.slowest * seconds

    def wait_before(self, failures: int, asked: float) -> float:
        """Seconds: twice as long each time, a random share of it off so that many clients do not return at once."""
        backed_off = min(self.first_wait * 2.0 ** (failures - 1), self.longest_wait) * (0.5 + self.jitter() / 2)
        return min(max(backed_off, asked), 2 * self.longest_wait)


class Response:
    """An answer whose body is read when it is asked for; close it, which hangs up."""

    def __init__(self, line: Line, got: requests.Response) -> None:
        self._line = line
        self.status_code = got.status_code
        self.reason = got.reason or ""
        self.headers = got.headers
        self.is_redirect = got.is_redirect

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces, an empty one whenever nothing comes for a moment. Raises `requests.RequestException`."""
        try:
            yield from self._line.chunks()
        except ValueError as error:  # of a chunk whose length is below 0
            raise requests.exceptions.ChunkedEncodingError(error) from error

    def close(self) -> None:
        self._line.hang_up()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(
    method: str, source: Source, patience: Patience, pulse: Pulse, headers: dict[str, str] | None = None
) -> Response:
    """The answer to a request, redirects followed as long as they lead to https. Proxies come from the environment.

    `pulse()` is called while it is waited for, at least every second; what it raises ends the wait and the connection.
    Raises `PassingFault` where nobody answers, `Fault` for an address or a redirect that is refused and for a source that
    takes too long to answer."""
    url = source.url
    for hop in range(MOST_REDIRECTS):
        response = send(method, url, patience, pulse, headers, allow_http=source.trusts_http and hop == 0)
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
    method: str,
    url: str,
    patience: Patience,
    pulse: Pulse,
    headers: dict[str, str] | None = None,
    allow_http: bool = False,
) -> Response:
    """One request, its answer's body not read yet, redirects not followed."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (allow_http and scheme == "http"):
        raise Fault(f"leads to {url[:100]}, which is not https")
    agreed = {"User-Agent": f"sd-gpen/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    line = Line(method, url, agreed, (patience.connect, patience.read))
    try:
        return Response(line, _answer(line, patience, pulse))
    except BaseException:
        line.hang_up()
        raise


def _answer(line: Line, patience: Patience, pulse: Pulse) -> requests.Response:
    try:
        return line.response(patience.answer, pulse)
    except TooSlow as error:
        raise Fault(f"did not answer within {patience.answer:.0f} s") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.SSLError) as error:
        raise Fault(f"cannot be asked ({describe(error)})") from error
    except requests.RequestException as error:
        kind = NobodyThere if _never_connected(error) else PassingFault
        raise kind(f"did not answer ({describe(error)})") from error
    except ValueError as error:  # requests looks at where a redirect leads, followed or not
        raise Fault(f"redirects to what is no address ({error})") from error


def _never_connected(error: requests.RequestException) -> bool:
    """Refused, unknown or without a way there; a connection that came too late is none of these."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    reason = getattr(reason, "original_error", reason)  # a proxy's
    return type(reason).__name__ in ("NewConnectionError", "NameResolutionError")


def describe(error: requests.RequestException) -> str:
    """What went wrong, in the words of the library that noticed it first."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[-1], BaseException) and cause.args[-1] is not cause:
        cause = cause.args[-1]
    reason = getattr(cause, "reason", None)
    cause = reason if isinstance(reason, BaseException) else cause
    words = [part for part in cause.args if isinstance(part, str)]  # beside connections, whose look says nothing
    text = words[-1] if words else str(cause)
    text = re.sub(r"^<[^>]*>: |^\S*\(host=[^)]*\): ", "", text).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def announced_size(response: Response, offset: int) -> int | None:
    """The whole file's length as the answer's header has it."""
    if response.status_code == 206:
        total = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
        return number(total[1]) if total else None
    length = number(response.headers.get("Content-Length", ""))
    return None if length is None else length + offset


def number(text: str) -> int | None:
    """A header's number of bytes or seconds; None for what is none, or longer than any can be."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def validator_of(response: Response) -> str | None:
    """What changes when the file does: its entity tag, else its date; None if the source tells neither."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")

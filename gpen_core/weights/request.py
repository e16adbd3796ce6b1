"""One question to a source over HTTP: redirects followed where they may lead, and waited for no longer than
`RetryPolicy`."""

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
from .http_stream import OnTick, StreamingRequest, TooSlow

MAX_REDIRECTS = 8


class SourceError(Exception):
    """A source did not give the file; the text says what it did instead."""


class RetryableError(SourceError):
    """One that may be gone on the next try."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds that the source asks to be left alone."""


class ConnectError(RetryableError):
    """No connection came about: its name is not known, or nothing listens there."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a source."""

    connect: float = 15.0
    """Seconds to reach it."""
    read: float = 30.0
    """Seconds between two bytes."""
    answer: float = 60.0
    """Seconds until an answer's headers are complete, from the question on."""
    min_speed: float = 1024.0
    """Bytes per second, measured over `window` seconds, and over all tries together: less is as good as nothing."""
    window: float = 60.0
    max_tries: int = 5
    """In a row without a single new byte, or below the slowest pace."""
    max_connect_tries: int = 2
    """The same where nobody is there and not a byte was ever received: most likely there is no network."""
    base_delay: float = 1.0
    max_delay: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep)
    jitter: Callable[[], float] = field(default=random.random)

    def is_slow(self, received: int, seconds: float) -> bool:
        """Whether so many bytes in so many seconds are below the slowest pace; never within the first `window`."""
        return seconds >= self.window and received < self.min_speed * seconds

    def delay(self, failures: int, retry_after: float) -> float:
        """Seconds: twice as long each time, a random share of it off so that many clients do not return at once."""
        backed_off = min(self.base_delay * 2.0 ** (failures - 1), self.max_delay) * (0.5 + self.jitter() / 2)
        return min(max(backed_off, retry_after), 2 * self.max_delay)


class Response:
    """An answer whose body is read when it is asked for; close it, which hangs up."""

    def __init__(self, stream: StreamingRequest, response: requests.Response) -> None:
        self._stream = stream
        self.status_code = response.status_code
        self.reason = response.reason or ""
        self.headers = response.headers
        self.is_redirect = response.is_redirect

    def iter_bytes(self) -> Iterator[bytes]:
        """The body in pieces, an empty one whenever nothing comes for a moment. Raises `requests.RequestException`."""
        try:
            yield from self._stream.iter_bytes()
        except ValueError as error:  # of a chunk whose length is below 0
            raise requests.exceptions.ChunkedEncodingError(error) from error

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(
    method: str, source: Source, policy: RetryPolicy, on_tick: OnTick, headers: dict[str, str] | None = None
) -> Response:
    """The answer to a request, redirects followed as long as they lead to https. Proxies come from the environment.

    `on_tick()` is called while it is waited for, at least every second; what it raises ends the wait and the connection.
    Raises `RetryableError` where nobody answers, `SourceError` for an address or a redirect that is refused and for a source
    that takes too long to answer."""
    url = source.url
    for hop in range(MAX_REDIRECTS):
        response = send(method, url, policy, on_tick, headers, allow_http=source.allows_http and hop == 0)
        if not response.is_redirect or (method == "HEAD" and "X-Linked-Etag" in response.headers):
            return response
        location = response.headers["Location"]
        response.close()
        try:
            url = urljoin(url, location)
            urlsplit(url)
        except ValueError as error:
            raise SourceError(f"redirects to what is no address ({error})") from error
    raise SourceError(f"redirects more than {MAX_REDIRECTS} times")


def send(
    method: str,
    url: str,
    policy: RetryPolicy,
    on_tick: OnTick,
    headers: dict[str, str] | None = None,
    allow_http: bool = False,
) -> Response:
    """One request, its answer's body not read yet, redirects not followed."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (allow_http and scheme == "http"):
        raise SourceError(f"leads to {url[:100]}, which is not https")
    all_headers = {"User-Agent": f"sd-gpen/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    stream = StreamingRequest(method, url, all_headers, (policy.connect, policy.read))
    try:
        return Response(stream, _wait_for_response(stream, policy, on_tick))
    except BaseException:
        stream.close()
        raise


def _wait_for_response(stream: StreamingRequest, policy: RetryPolicy, on_tick: OnTick) -> requests.Response:
    try:
        return stream.response(policy.answer, on_tick)
    except TooSlow as error:
        raise SourceError(f"did not answer within {policy.answer:.0f} s") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.SSLError) as error:
        raise SourceError(f"cannot be asked ({describe_error(error)})") from error
    except requests.RequestException as error:
        kind = ConnectError if _never_connected(error) else RetryableError
        raise kind(f"did not answer ({describe_error(error)})") from error
    except ValueError as error:  # requests looks at where a redirect leads, followed or not
        raise SourceError(f"redirects to what is no address ({error})") from error


def _never_connected(error: requests.RequestException) -> bool:
    """Refused, unknown or without a way there; a connection that came too late is none of these."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    reason = getattr(reason, "original_error", reason)  # a proxy's
    return type(reason).__name__ in ("NewConnectionError", "NameResolutionError")


def describe_error(error: requests.RequestException) -> str:
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


def content_length(response: Response, offset: int) -> int | None:
    """The whole file's length as the answer's header has it."""
    if response.status_code == 206:
        total = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
        return parse_number(total[1]) if total else None
    length = parse_number(response.headers.get("Content-Length", ""))
    return None if length is None else length + offset


def parse_number(text: str) -> int | None:
    """A header's number of bytes or seconds; None for what is none, or longer than any can be."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def get_validator(response: Response) -> str | None:
    """What changes when the file does: its entity tag, else its date; None if the source tells neither."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")

"""Sends one HTTP request to a source, follows allowed redirects and limits the wait by `RetryPolicy`."""

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
    """A source did not serve the file. The message is a predicate whose subject is the source, e.g. "answered 404"."""


class RetryableError(SourceError):
    """An error that the next try may not have."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds that the source asks to wait before the next request."""


class ConnectError(RetryableError):
    """No connection: the host name is unknown, or nothing listens there."""


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts and retries for a source."""

    connect: float = 15.0
    """Seconds to connect."""
    read: float = 30.0
    """Seconds between two bytes."""
    answer: float = 60.0
    """Seconds from the request until the response's headers are complete."""
    min_speed: float = 1024.0
    """Minimum speed in bytes per second, over `window` seconds and over all tries together."""
    window: float = 60.0
    max_tries: int = 5
    """Tries in a row without a new byte, or below `min_speed`."""
    max_connect_tries: int = 2
    """The same if no connection was made and no byte was received, most likely because there is no network."""
    base_delay: float = 1.0
    max_delay: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep)
    jitter: Callable[[], float] = field(default=random.random)

    def is_slow(self, received: int, seconds: float) -> bool:
        """Whether `received` bytes in `seconds` are below `min_speed`; always False within the first `window`."""
        return seconds >= self.window and received < self.min_speed * seconds

    def delay(self, failures: int, retry_after: float) -> float:
        """Return the seconds to wait, doubled for each failure, with jitter so that many clients do not return at once."""
        backed_off = min(self.base_delay * 2.0 ** (failures - 1), self.max_delay) * (0.5 + self.jitter() / 2)
        return min(max(backed_off, retry_after), 2 * self.max_delay)


class Response:
    """A response whose body is read on demand. `close` ends the connection."""

    def __init__(self, stream: StreamingRequest, response: requests.Response) -> None:
        self._stream = stream
        self.status_code = response.status_code
        self.reason = response.reason or ""
        self.headers = response.headers
        self.is_redirect = response.is_redirect

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the body in chunks, with empty ones while no data arrives. Raises `requests.RequestException`."""
        try:
            yield from self._stream.iter_bytes()
        except ValueError as error:  # a chunk with a negative length
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
    """Send a request, follow redirects to https, and return the response. Proxies come from the environment.

    `on_tick()` is called at least once per second while waiting. An exception from it closes the connection.
    Raises `RetryableError` if the source does not answer. Raises `SourceError` for a refused URL or redirect, and if the
    response takes too long."""
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
            raise SourceError(f"redirects to an invalid URL ({error})") from error
    raise SourceError(f"redirects more than {MAX_REDIRECTS} times")


def send(
    method: str,
    url: str,
    policy: RetryPolicy,
    on_tick: OnTick,
    headers: dict[str, str] | None = None,
    allow_http: bool = False,
) -> Response:
    """Send one request and return the response, before its body is read and without following redirects."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (allow_http and scheme == "http"):
        raise SourceError(f"redirects to {url[:100]}, which is not https")
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
        raise SourceError(f"cannot be reached ({describe_error(error)})") from error
    except requests.RequestException as error:
        kind = ConnectError if _never_connected(error) else RetryableError
        raise kind(f"did not answer ({describe_error(error)})") from error
    except ValueError as error:  # requests parses the target of each redirect
        raise SourceError(f"redirects to an invalid URL ({error})") from error


def _never_connected(error: requests.RequestException) -> bool:
    """Whether the connection was refused, the host unknown or the network unreachable. A timeout does not count."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    reason = getattr(reason, "original_error", reason)  # errors of a proxy
    return type(reason).__name__ in ("NewConnectionError", "NameResolutionError")


def describe_error(error: requests.RequestException) -> str:
    """Return the message of the innermost exception."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[-1], BaseException) and cause.args[-1] is not cause:
        cause = cause.args[-1]
    reason = getattr(cause, "reason", None)
    cause = reason if isinstance(reason, BaseException) else cause
    words = [part for part in cause.args if isinstance(part, str)]  # other arguments are connection objects
    text = words[-1] if words else str(cause)
    text = re.sub(r"^<[^>]*>: |^\S*\(host=[^)]*\): ", "", text).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def content_length(response: Response, offset: int) -> int | None:
    """Return the length of the whole file from the response's headers, in bytes, or None."""
    if response.status_code == 206:
        total = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
        return parse_number(total[1]) if total else None
    length = parse_number(response.headers.get("Content-Length", ""))
    return None if length is None else length + offset


def parse_number(text: str) -> int | None:
    """Return a header's non-negative integer; None if it is not one or has more than 15 digits."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def get_validator(response: Response) -> str | None:
    """Return the entity tag or else the date, which change with the file; None if the response has neither."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")

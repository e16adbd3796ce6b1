"""Runs one HTTP request in its own thread, so that the caller can report progress, cancel and close the connection.

The timeouts of requests count from one received byte to the next. A source that sends one byte per second, or endless
`100 Continue`, would block the reader forever. Here, closing the connection ends the reader's thread.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

CHUNK_SIZE = 1 << 14  # bytes that a broken connection can lose
QUEUE_SIZE = 8  # chunks that are read ahead
TICK_SECONDS = 0.2  # between two calls of `on_tick`

OnTick = Callable[[], None]


class TooSlow(Exception):
    """The response did not begin in time."""


class StreamingRequest:
    """A running request. First its headers are read, then its body."""

    def __init__(self, method: str, url: str, headers: dict[str, str], timeout: tuple[float, float]) -> None:
        """Send the request without following redirects. `timeout`: seconds to connect, and between two bytes."""
        self._items: queue.Queue[requests.Response | bytes | BaseException | None] = queue.Queue(QUEUE_SIZE)
        self._is_closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._request = (method, url, headers, timeout)
        threading.Thread(target=self._run, name="gpen-download", daemon=True).start()

    def response(self, deadline: float, on_tick: OnTick) -> requests.Response:
        """Wait for the headers. `on_tick()` is called several times per second and may raise.

        Raises `TooSlow` after `deadline` seconds, and the exceptions of `requests`."""
        until = time.monotonic() + deadline
        while True:
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=TICK_SECONDS)
                if isinstance(item, BaseException):
                    raise item
                return cast(requests.Response, item)  # always the first item
            on_tick()
            if time.monotonic() > until:
                raise TooSlow

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the body in chunks, and an empty chunk after each `TICK_SECONDS` without data.

        Raises the exceptions of `requests`."""
        while True:
            try:
                item = self._items.get(timeout=TICK_SECONDS)
            except queue.Empty:
                item = b""
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield cast(bytes, item)

    def close(self) -> None:
        """Close the connection, even while the thread reads from it."""
        self._is_closed.set()
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):  # already closed
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._sockets.clear()

    def _add_socket(self, connection: socket.socket) -> None:
        """Keep a duplicate of the socket, because TLS hides the first one and the reader may close it."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self._is_closed.is_set():
            self.close()

    def _run(self) -> None:
        method, url, headers, timeout = self._request
        try:
            with requests.Session() as session:
                for scheme in ("http://", "https://"):
                    session.mount(scheme, _Adapter(self._add_socket))
                options: dict[str, Any] = {"headers": headers, "timeout": timeout, "stream": True, "allow_redirects": False}
                with session.request(method, url, **options) as response:
                    self._put(response)
                    for chunk in response.iter_content(CHUNK_SIZE):
                        self._put(chunk)
                        if self._is_closed.is_set():
                            break
            self._put(None)
        except BaseException as error:  # raised again in the caller's thread
            # requests does not convert the error for a missing file of certificates, which the environment can name.
            is_raw = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
            self._put(requests.exceptions.SSLError(error) if is_raw else error)

    def _put(self, item: requests.Response | bytes | BaseException | None) -> None:
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=TICK_SECONDS)
                return


class _Adapter(HTTPAdapter):
    """Reports each connection. It cannot for SOCKS proxies, where a closed request waits for the reader's timeouts."""

    def __init__(self, on_connect: Callable[[socket.socket], None]) -> None:
        self._pool_classes = _pool_classes(on_connect)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pool_classes
        return manager


def _pool_classes(on_connect: Callable[[socket.socket], None]) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        __qualname__ = "Plain"  # shown in errors; `describe_error` removes it

        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            on_connect(connection)
            return connection

    class Secure(HTTPSConnection):
        __qualname__ = "Secure"

        def _new_conn(self) -> socket.socket:  # before TLS, whose handshake can be slow, too
            connection = super()._new_conn()
            on_connect(connection)
            return connection

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}

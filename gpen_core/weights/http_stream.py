"""One HTTP request in a thread of its own, so that whoever waits for it can say so, give up, and hang up.

The library's timeouts count from one received byte to the next: a source that sends a byte a second, or `100 Continue`
without end, holds its reader for ever. The reader here can be left behind; its connection is shut down under it.
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

CHUNK_SIZE = 1 << 14  # bytes: what a broken line can lose
QUEUE_SIZE = 8  # chunks that are read before the last was taken
TICK_SECONDS = 0.2  # seconds: how often whoever waits is told

OnTick = Callable[[], None]


class TooSlow(Exception):
    """The answer did not begin in time."""


class StreamingRequest:
    """A request on its way, its answer's headers and then its body."""

    def __init__(self, method: str, url: str, headers: dict[str, str], timeout: tuple[float, float]) -> None:
        """Asks at once; redirects are not followed. `timeout` is for connecting and between two bytes, in seconds."""
        self._items: queue.Queue[requests.Response | bytes | BaseException | None] = queue.Queue(QUEUE_SIZE)
        self._is_closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._request = (method, url, headers, timeout)
        threading.Thread(target=self._run, name="gpen-download", daemon=True).start()

    def response(self, deadline: float, on_tick: OnTick) -> requests.Response:
        """The answer without its body. `on_tick()` is called several times a second and may raise.

        Raises `TooSlow` after `deadline` seconds, and what `requests` raises."""
        until = time.monotonic() + deadline
        while True:
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=TICK_SECONDS)
                if isinstance(item, BaseException):
                    raise item
                return cast(requests.Response, item)  # which comes first
            on_tick()
            if time.monotonic() > until:
                raise TooSlow

    def iter_bytes(self) -> Iterator[bytes]:
        """The body in pieces, one of no bytes whenever `TICK_SECONDS` seconds bring nothing. Raises what `requests`
        raises."""
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
        """Ends the connection, whatever its reader waits for."""
        self._is_closed.set()
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):  # it is closed already
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._sockets.clear()

    def _add_socket(self, connection: socket.socket) -> None:
        """Keeps a second handle: the first is hidden in TLS, or closed by whoever reads."""
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
        except BaseException as error:  # for whoever waits, in whose thread it is raised
            self._put(error)

    def _put(self, item: requests.Response | bytes | BaseException | None) -> None:
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=TICK_SECONDS)
                return


class _Adapter(HTTPAdapter):
    """Tells of each connection; through a SOCKS proxy it does not, and hanging up then leaves the reader to its timeouts."""

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
        __qualname__ = "Plain"  # what errors show; "describe" takes it off

        def _new_conn(self) -> socket.socket:
            line = super()._new_conn()
            on_connect(line)
            return line

    class Secure(HTTPSConnection):
        __qualname__ = "Secure"

        def _new_conn(self) -> socket.socket:  # before TLS, whose beginning can be slow, too
            line = super()._new_conn()
            on_connect(line)
            return line

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}

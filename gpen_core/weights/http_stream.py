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

CHUNK = 1 << 14  # bytes: what a broken line can lose
AHEAD = 8  # chunks that are read before the last was taken
TICK = 0.2  # seconds: how often whoever waits is told

Pulse = Callable[[], None]


class TooSlow(Exception):
    """The answer did not begin in time."""


class Line:
    """A request on its way, its answer's headers and then its body."""

    def __init__(self, method: str, url: str, headers: dict[str, str], timeout: tuple[float, float]) -> None:
        """Asks at once; redirects are not followed. `timeout` is for connecting and between two bytes, in seconds."""
        self._said: queue.Queue[requests.Response | bytes | BaseException | None] = queue.Queue(AHEAD)
        self._is_over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._asked = (method, url, headers, timeout)
        threading.Thread(target=self._read, name="gpen-download", daemon=True).start()

    def response(self, deadline: float, pulse: Pulse) -> requests.Response:
        """The answer without its body. `pulse()` is called several times a second and may raise.

        Raises `TooSlow` after `deadline` seconds, and what `requests` raises."""
        until = time.monotonic() + deadline
        while True:
            with contextlib.suppress(queue.Empty):
                said = self._said.get(timeout=TICK)
                if isinstance(said, BaseException):
                    raise said
                return cast(requests.Response, said)  # which comes first
            pulse()
            if time.monotonic() > until:
                raise TooSlow

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces, one of no bytes whenever `TICK` seconds bring nothing. Raises what `requests` raises."""
        while True:
            try:
                said = self._said.get(timeout=TICK)
            except queue.Empty:
                said = b""
            if isinstance(said, BaseException):
                raise said
            if said is None:
                return
            yield cast(bytes, said)

    def hang_up(self) -> None:
        """Ends the connection, whatever its reader waits for."""
        self._is_over.set()
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):  # it is closed already
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._sockets.clear()

    def _connected(self, line: socket.socket) -> None:
        """Keeps a second handle: the first is hidden in TLS, or closed by whoever reads."""
        with self._lock:
            self._sockets.append(line.dup())
        if self._is_over.is_set():
            self.hang_up()

    def _read(self) -> None:
        method, url, headers, timeout = self._asked
        try:
            with requests.Session() as session:
                for scheme in ("http://", "https://"):
                    session.mount(scheme, _Adapter(self._connected))
                given: dict[str, Any] = {"headers": headers, "timeout": timeout, "stream": True, "allow_redirects": False}
                with session.request(method, url, **given) as response:
                    self._say(response)
                    for chunk in response.iter_content(CHUNK):
                        self._say(chunk)
                        if self._is_over.is_set():
                            break
            self._say(None)
        except BaseException as error:  # for whoever waits, in whose thread it is raised
            self._say(error)

    def _say(self, what: requests.Response | bytes | BaseException | None) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(queue.Full):
                self._said.put(what, timeout=TICK)
                return


class _Adapter(HTTPAdapter):
    """Tells of each connection; through a SOCKS proxy it does not, and hanging up then leaves the reader to its timeouts."""

    def __init__(self, connected: Callable[[socket.socket], None]) -> None:
        self._pools = _pools(connected)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(connected: Callable[[socket.socket], None]) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        __qualname__ = "Plain"  # what errors show; "describe" takes it off

        def _new_conn(self) -> socket.socket:
            line = super()._new_conn()
            connected(line)
            return line

    class Secure(HTTPSConnection):
        __qualname__ = "Secure"

        def _new_conn(self) -> socket.socket:  # before TLS, whose beginning can be slow, too
            line = super()._new_conn()
            connected(line)
            return line

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}

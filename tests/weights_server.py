"""A server on 127.0.0.1 that serves one file as badly as it is told to."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import re
import select
import socket
import threading
import time
from dataclasses import dataclass, field

from gpen_core.weights.catalog import Source

FILE = "/weights.pth"


@dataclass
class Request:
    """What was asked, and how much of the body was handed to the system."""

    method: str
    path: str
    start: int
    sent: int = 0
    headers: dict = field(default_factory=dict)


class Server(http.server.ThreadingHTTPServer):
    """`answers` are taken one by one, the last one for ever; each is a function of (handler, body, start)."""

    daemon_threads = True

    def __init__(self, body, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.answers = list(answers) or [serve]
        self.head = None  # as `answers`, for HEAD
        self.pages = {}  # other paths
        self.etag = '"1"'
        self.requests = []
        self.lock = threading.Lock()
        self.hung_up = threading.Event()  # by the client, amid a drip
        self.ended = threading.Event()

    @property
    def root(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self):
        return self.root + FILE

    @property
    def source(self):
        return Source(self.url, allows_http=True)

    @property
    def gets(self):
        return [r for r in self.requests if r.method == "GET" and r.path == FILE]

    @property
    def sent(self):
        return sum(r.sent for r in self.gets)

    def next_answer(self):
        with self.lock:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def handle_error(self, request, client_address):
        pass  # a client that goes away is what these tests are about


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.server.requests.append(Request("HEAD", self.path, 0, headers=dict(self.headers)))
        (self.server.head or headers_only)(self, self.server.body, 0)

    def do_GET(self):
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        self.request_log = Request("GET", self.path, start, headers=dict(self.headers))
        self.server.requests.append(self.request_log)
        if self.path in self.server.pages:
            return self.server.pages[self.path](self, b"", 0)
        if self.path != FILE:
            return status(404)(self, b"", 0)
        return self.server.next_answer()(self, self.server.body, start)

    def start(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data, chunk=16384, pause=0.0):
        for at in range(0, len(data), chunk):
            piece = data[at : at + chunk]
            self.wfile.write(piece)
            self.request_log.sent += len(piece)
            if pause:
                time.sleep(pause)

    def drip(self, parts, pause=0.02):
        """Sends bytes or pieces one by one for as long as somebody reads, and notes when nobody does any more."""
        for part in parts:
            self.wfile.write(part if isinstance(part, bytes) else bytes([part]))
            if self.server.ended.wait(pause):
                return
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                break
        self.server.hung_up.set()
        self.hang_up()

    def hang_up(self):
        self.close_connection = True


def range_headers(body, start):
    return {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}


def begin(handler, body, start, length=None):
    if start >= len(body) and start:
        handler.start(416, Content_Length=0, Content_Range=f"bytes */{len(body)}")
        return False
    length = len(body) - start if length is None else length
    handler.start(206 if start else 200, Content_Length=length, ETag=handler.server.etag, **range_headers(body, start))
    return True


def serve(handler, body, start):
    if begin(handler, body, start):
        handler.send(body[start:])


def headers_only(handler, body, start):
    handler.start(200, Content_Length=len(body), ETag=handler.server.etag)


def slowly(chunk, pause):
    def answer(handler, body, start):
        if begin(handler, body, start):
            handler.send(body[start:], chunk, pause)

    return answer


def drop_after(count):
    """Announces everything that is left, sends `count` bytes and hangs up."""

    def answer(handler, body, start):
        if begin(handler, body, start):
            handler.send(body[start : start + count])
            if start + count < len(body):
                handler.hang_up()

    return answer


def stall_after(count, seconds=3.0):
    def answer(handler, body, start):
        if begin(handler, body, start):
            handler.send(body[start : start + count])
            handler.wfile.flush()
            time.sleep(seconds)
            handler.hang_up()

    return answer


def drip_headers(handler, body, start):
    """Valid headers, a byte at a time and without end."""
    handler.drip(itertools.chain(b"HTTP/1.1 200 OK\r\n", itertools.cycle(b"X-A: b\r\n")))


def continue_for_ever(handler, body, start):
    handler.drip(itertools.cycle([b"HTTP/1.1 100 Continue\r\n\r\n"]))


def drip_body(handler, body, start):
    handler.start(200, Content_Length=len(body), ETag=handler.server.etag)
    handler.drip(body)


def announce(length):
    """Says that there are `length` bytes, whatever is sent."""

    def answer(handler, body, start):
        handler.start(200, Content_Length=length)
        handler.send(body[:length])
        handler.hang_up()

    return answer


def announce_as(text):
    """All is sent, with a length in words."""

    def answer(handler, body, start):
        handler.start(200, Content_Length=text, Connection="close")
        handler.send(body)
        handler.hang_up()

    return answer


def without_length(handler, body, start):
    """Ends when the connection does, and never mind the range."""
    handler.start(200, Connection="close")
    handler.send(body)
    handler.hang_up()


def truncated_chunks(handler, body, start):
    """All of the file, and the announcement of a chunk that never comes."""
    handler.start(200, Transfer_Encoding="chunked")
    handler.send(b"%x\r\n%s\r\n" % (len(body), body), chunk=len(body) + 99)
    handler.wfile.write(b"5\r\n")
    handler.hang_up()


def negative_chunk_size(handler, body, start):
    handler.start(200, Transfer_Encoding="chunked")
    handler.send(b"-5\r\n" + body)
    handler.hang_up()


def ignore_range(inner=None):
    def answer(handler, body, start):
        (inner or serve)(handler, body, 0)

    return answer


def wrong_range(handler, body, start):
    """Another part than the one it was asked for."""
    if not start:
        return serve(handler, body, 0)
    handler.start(206, Content_Length=len(body) - start, Content_Range=f"bytes {start - 1}-{len(body) - 2}/{len(body)}")
    return handler.send(body[start - 1 : -1])


def status(code, **headers):
    def answer(handler, body, start):
        handler.start(code, Content_Length=0, **headers)

    return answer


def redirect(url):
    return status(302, Location=url)


def page(content_type="text/html; charset=utf-8"):
    text = b"<!DOCTYPE html><html><head><title>Log in</title></head></html>"

    def answer(handler, body, start):
        handler.start(200, Content_Type=content_type, Content_Length=len(text))
        handler.send(text)

    return answer


def other(content):
    """Another file than the server's."""

    def answer(handler, body, start):
        serve(handler, content, start)

    return answer


def text(content, content_type="application/json"):
    def answer(handler, body, start):
        handler.start(200, Content_Type=content_type, Content_Length=len(content))
        handler.send(content)

    return answer


@contextlib.contextmanager
def running(body, *answers):
    server = Server(body, *answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()

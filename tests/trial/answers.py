"""What a server can answer: to a GET, to a HEAD, and in a listing. Each a function of (handler, body, start)."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import random
import socket
import struct
import time

from .. import weights_server as ws

BODY = random.Random(7).randbytes(60_000)
OTHER = random.Random(8).randbytes(60_000)
ARRIVES, FAILS = "arrives", "fails"
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
PAGE = b"<!DOCTYPE html><html><body>Log in</body></html>"


def raw(*parts, pause=0.0):
    """These bytes as they are, then the end of the connection; a client that goes away is none of its business."""

    def answer(handler, body, start):
        handler.hang_up()
        with contextlib.suppress(OSError):
            for part in parts:
                handler.wfile.write(part)
                time.sleep(pause)

    return answer


def reset(*parts):
    """These bytes, then a reset in place of an end."""

    def answer(handler, body, start):
        raw(*parts)(handler, body, start)
        handler.wfile.flush()
        time.sleep(0.05)  # else the reset overtakes the bytes
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()

    return answer


def full(*headers, body=BODY):
    """A whole answer with these lines more."""
    return raw(OK, LENGTH, *(line + b"\r\n" for line in headers), b"\r\n", body)


def without_length(*headers, body=BODY):
    return raw(OK, *(line + b"\r\n" for line in headers), b"Connection: close\r\n\r\n", body)


def chunked(body):
    return raw(OK, b"Transfer-Encoding: chunked\r\n\r\n", body)


def endless(handler, body, start):
    handler.start(200, Connection="close")
    handler.hang_up()
    with contextlib.suppress(OSError):
        while not handler.server.ended.is_set():
            handler.wfile.write(bytes(1 << 16))


def part(content_range, cut=0):
    """To a range, a part with this header; else the beginning of the file."""

    def answer(handler, body, start):
        if not start:
            return ws.drop_after(20_000)(handler, body, 0)
        handler.start(
            206, Content_Length=len(body) - start - cut, **({"Content-Range": content_range} if content_range else {})
        )
        return handler.send(body[start + cut :])

    return answer


def only_first(answer):
    """To a range, `answer`; else the first third of the file."""
    return lambda handler, body, start: (answer if start else ws.drop_after(20_000))(handler, body, start)


def unasked(handler, body, start):
    """A part that nobody asked for."""
    handler.start(206, Content_Length=len(body) - 5, Content_Range=f"bytes 5-{len(body) - 1}/{len(body)}")
    handler.send(body[5:])


def new_tag(handler, body, start):
    handler.server.etag = f'"{time.monotonic_ns()}"'
    ws.drop_after(20_000)(handler, body, start)


def fewer(handler, body, start):
    """Half of what is left each time, at last less than a piece."""
    ws.drop_after(max(1, (len(body) - start) // 2))(handler, body, start)


def continued(times):
    return raw(b"HTTP/1.1 100 Continue\r\n\r\n" * times, OK, LENGTH, b"\r\n", BODY)


def redirect(location):
    return raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")


def busy(*retry_after):
    return raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n", *retry_after, b"\r\n")


def as_hex(data, size=4096):
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


FLIPPED = BODY[:30_000] + bytes((BODY[30_000] ^ 1,)) + BODY[30_001:]
PACKED = gzip.compress(BODY, mtime=0)

# name -> what becomes of a download whose only source answers so for ever, and the answer
MODES = {
    "all is well": (ARRIVES, ws.serve),
    # breaks
    "ends at once": (FAILS, raw()),
    "ends amid the status line": (FAILS, raw(b"HTTP/1.")),
    "ends amid the headers": (FAILS, raw(OK, b"Content-Le")),
    "ends after the headers": (FAILS, ws.drop_after(0)),
    "gives less than a piece each time": (FAILS, ws.drop_after(9000)),
    "gives a piece and more each time": (ARRIVES, ws.drop_after(20_000)),
    "gives half of what is left": (FAILS, fewer),
    "ends early and ignores ranges": (FAILS, ws.ignore_range(ws.drop_after(20_000))),
    "resets at once": (FAILS, reset()),
    "resets amid the headers": (FAILS, reset(OK, b"Content-Le")),
    "resets amid the body": (FAILS, reset(OK, LENGTH, b"\r\n", BODY[:20_000])),
    "stalls before the headers": (FAILS, lambda handler, body, start: handler.server.ended.wait(3)),
    "stalls before the body": (FAILS, ws.stall_after(0, 2.0)),
    "stalls amid the body": (FAILS, ws.stall_after(2000, 2.0)),
    # slow
    "drips headers": (FAILS, ws.drip_headers),
    "drips the body": (FAILS, ws.drip_body),
    "says 100 Continue for ever": (FAILS, ws.continue_for_ever),
    "says 100 Continue ten times": (ARRIVES, continued(10)),
    "early hints": (FAILS, raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK, LENGTH, b"\r\n", BODY)),
    # status lines
    "speaks of no HTTP": (FAILS, raw(b"hello, this is no server of files\n" * 20)),
    "speaks SSH": (FAILS, raw(b"SSH-2.0-OpenSSH_9.6\r\n")),
    "speaks TLS": (FAILS, raw(b"\x15\x03\x01\x00\x02\x02\x46")),
    "HTTP/0.9": (FAILS, raw(BODY)),
    "HTTP/1.0": (ARRIVES, raw(b"HTTP/1.0 200 OK\r\n\r\n", BODY)),
    "HTTP/9.9": (FAILS, raw(b"HTTP/9.9 200 OK\r\n", LENGTH, b"\r\n", BODY)),
    "a status in words": (FAILS, raw(b"HTTP/1.1 abc OK\r\n\r\n")),
    "a status of five digits": (FAILS, raw(b"HTTP/1.1 20000 OK\r\n", LENGTH, b"\r\n", BODY)),
    "a status below 100": (FAILS, raw(b"HTTP/1.1 -20 OK\r\n\r\n")),
    "no status": (FAILS, raw(b"HTTP/1.1\r\n\r\n")),
    "empty lines": (FAILS, raw(b"\r\n" * 2000)),
    "a line without end": (FAILS, raw(b"HTTP/1.1 200 " + b"O" * 200_000)),
    **{f"answers {code}": (FAILS, ws.status(code)) for code in (204, 304, 401, 403, 404, 408, 410, 425, 451, 500, 502, 504)},
    # headers
    "a header without end": (FAILS, raw(OK, b"X: " + b"a" * 200_000)),
    "hundreds of headers": (FAILS, full(*(b"X-%d: a" % n for n in range(500)))),
    "a header without a colon": (ARRIVES, full(b"this is no header", b"Content-Type: text/html")),
    "a header of nulls": (ARRIVES, full(b"X-A: \0\0\xff")),
    "a folded header": (ARRIVES, full(b"X-A: b", b" c")),
    # lengths
    "a length too small": (FAILS, ws.announce(1000)),
    "a length too large": (FAILS, ws.announce(10**9)),
    "a length below 0": (ARRIVES, ws.announce_as("-5")),
    "a length in words": (ARRIVES, ws.announce_as("many")),
    "a length of 5,000 digits": (ARRIVES, ws.announce_as("9" * 5000)),
    "two lengths": (FAILS, full(b"Content-Length: 7")),
    "no length": (ARRIVES, without_length()),
    "no length, and half": (FAILS, without_length(body=BODY[:30_000])),
    "no length, and more": (FAILS, without_length(body=BODY + b"more")),
    "nothing at all": (FAILS, raw(OK, b"Content-Length: 0\r\n\r\n")),
    "no end": (FAILS, endless),
    "more behind the end": (ARRIVES, full(body=BODY + b"HTTP/1.1 200 OK\r\n\r\n" * 9)),
    # chunks
    "in chunks": (ARRIVES, chunked(as_hex(BODY) + b"0\r\n\r\n")),
    "in chunks of ten bytes": (ARRIVES, chunked(as_hex(BODY, 10) + b"0\r\n\r\n")),
    "in chunks that break off": (ARRIVES, ws.truncated_chunks),
    "in chunks, and half": (FAILS, chunked(as_hex(BODY[:30_000]) + b"0\r\n\r\n")),
    "in chunks of no size": (FAILS, chunked(b"size\r\n" + BODY)),
    "in chunks of less than nothing": (FAILS, ws.negative_chunk_size),
    "in chunks too large": (FAILS, chunked(b"ffffffffffffffffffff\r\n" + BODY)),
    "in chunks with long names": (FAILS, chunked(b"5;" + b"a" * 200_000 + b"\r\nhello\r\n0\r\n\r\n")),
    "in chunks, and a line without end": (ARRIVES, chunked(as_hex(BODY) + b"0\r\n" + b"a" * 200_000)),
    "in chunks and with a length": (ARRIVES, full(b"Transfer-Encoding: chunked", body=as_hex(BODY) + b"0\r\n\r\n")),
    # parts
    "a part that nobody asked for": (FAILS, unasked),
    "a part and no word which": (FAILS, part(None)),
    "a part of nothing": (FAILS, part("bytes */60000")),
    "a part of another place": (FAILS, part("bytes 0-9/60000", 100)),
    "a part in words": (FAILS, part("lines two to three")),
    "a part in 5,000 digits": (FAILS, part("bytes " + "9" * 5000 + "-1/2")),
    "416 to every range": (FAILS, only_first(ws.status(416))),
    "the page of an error to every range": (FAILS, only_first(ws.page())),
    "a new tag each time": (ARRIVES, new_tag),
    # packed
    "packed": (FAILS, raw(OK, b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED), PACKED)),
    "packed, it says": (FAILS, full(b"Content-Encoding: gzip")),
    "packed in a strange way": (FAILS, full(b"Content-Encoding: \xff, br")),
    "not packed, it says": (ARRIVES, full(b"Content-Encoding: identity")),
    # other files
    "a web page": (FAILS, ws.page()),
    "a web page as a file": (FAILS, without_length(b"Content-Type: application/octet-stream", body=PAGE)),
    "a web page behind blanks": (FAILS, without_length(body=b"\xef\xbb\xbf \n" + PAGE)),
    "another file": (FAILS, ws.other(OTHER)),
    "a flipped bit": (FAILS, ws.other(FLIPPED)),
    "a longer file": (FAILS, ws.other(BODY + b"more")),
    "another file to every range": (FAILS, only_first(ws.other(OTHER))),
    # redirects
    "leads to itself": (FAILS, redirect(b"/weights.pth")),
    "leads to a closed door": (FAILS, redirect(b"https://127.0.0.1:1/x")),
    "leads to a file": (FAILS, redirect(b"file:///etc/passwd")),
    "leads to data": (FAILS, redirect(b"data:,hello")),
    "leads to a script": (FAILS, redirect(b"javascript:alert(1)")),
    "leads to no address": (FAILS, redirect(b"http://[::1")),
    "leads to a port that is none": (FAILS, redirect(b"https://127.0.0.1:99999/")),
    "leads to a name of dots": (FAILS, redirect(b"https://../..")),
    "leads to no host": (FAILS, redirect(b"https:///x")),
    "leads to bytes": (FAILS, redirect(b"https://\xff\xfe\x01/")),
    "leads far": (FAILS, redirect(b"https://127.0.0.1:1/" + b"a" * 40_000)),
    "leads nowhere": (FAILS, redirect(b"")),
    "leads, and does not say where": (FAILS, ws.status(302)),
    # later
    "busy": (FAILS, busy()),
    "busy for ten days": (FAILS, busy(b"Retry-After: 864000\r\n")),
    "busy until a date": (FAILS, busy(b"Retry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\n")),
    "busy for less than nothing": (FAILS, busy(b"Retry-After: -1\r\n")),
    "busy for 5,000 digits": (FAILS, busy(b"Retry-After: " + b"9" * 5000 + b"\r\n")),
    "busy for other scripts' digits": (FAILS, busy("Retry-After: \u00b2\r\n".encode())),
}
HEADS = {
    "404": (ARRIVES, ws.status(404)),
    "drips": (ARRIVES, lambda handler, body, start: handler.drip(itertools.chain(OK, itertools.cycle(b"X-A: b\r\n")))),
    "garbage": (ARRIVES, raw(b"\0" * 99)),
    "reset": (ARRIVES, reset()),
    "far too long": (FAILS, raw(OK, b"Content-Length: 999999999999\r\n\r\n")),
    "another length": (FAILS, raw(OK, b"Content-Length: 7\r\n\r\n")),
    "another tag": (FAILS, raw(OK, LENGTH, b'ETag: "another"\r\n\r\n')),
    "a length of 5,000 digits": (ARRIVES, raw(OK, b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n")),
    "leads away": (ARRIVES, redirect(b"http://127.0.0.1:1/")),
}
# All of these count as no answer, or as one that the file is compared with.
LISTINGS = {
    "nested deeply": ws.text(b'{"Data":' * 90_000),
    "endless": endless,
    "no JSON": ws.text(b"\xff\xfe{"),
    "a huge number": ws.text(b'{"Data": {"Files": [{"Path": "weights.pth", "Sha256": 1, "Size": ' + b"9" * 6000 + b"}]}}"),
    "a size below 0": ws.text(b'{"Data": {"Files": [{"Path": "weights.pth", "Sha256": "", "Size": -5}]}}'),
    "a size that is true": ws.text(b'{"Data": {"Files": [{"Path": "weights.pth", "Sha256": "", "Size": true}]}}'),
    "another digest": ws.text(
        b'{"Data": {"Files": [{"Path": "weights.pth", "Sha256": "%s", "Size": 60000}]}}' % (b"0" * 64)
    ),
    "a tower": ws.text(b'{"Data": {"Files": {"Path": {"Path": []}}}}'),
}

"""Inputs on other machines: servers that send what they like, objects with odd names, archives that are damaged.

Whatever comes, an input is the whole image or an error of its own, in bounded time and memory, and nothing is written
outside of the folder for results.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

from gpen_core.batch import image_io as access
from gpen_core.batch import local, remote
from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.locations import Url, parse_location
from gpen_core.batch.output_names import OutputSpec
from gpen_core.batch.sources import Sources
from gpen_core.errors import InputError, OptionsError

from .. import image_files as made
from .. import weights_server as ws
from .answers import MODES, OK, endless, raw
from .damage import damaged, dice
from .entry import ACCEPTED, REFUSED

FORMATS = ("http", "names", "zip")
LARGEST = 1 << 20  # bytes: stands for the limit, so that an endless body ends soon
SECONDS = 2.0  # for one request: of aiohttp's five minutes
PICTURE = made.png(made.noise((96, 96, 3)))


# Servers


def in_pieces(handler, body, start):
    """Without a length; not all of it arrives at once."""
    handler.start(200, Connection="close")
    handler.send(body, chunk=5000, pause=0.002)
    handler.hang_up()


def cut(length=True):
    def answer(handler, body, start):
        handler.start(200, Connection="close", **({"Content_Length": len(body)} if length else {}))
        handler.send(body[: len(body) // 2])
        handler.hang_up()

    return answer


def lies(length):
    """All is sent, whatever length is announced."""
    return lambda handler, body, start: raw(OK, b"Content-Length: %d\r\n\r\n" % length, body)(handler, body, start)


def endless_part(handler, body, start):
    handler.start(206, Connection="close", Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}")
    handler.hang_up()
    with contextlib.suppress(OSError):
        while not handler.server.ended.is_set():
            handler.wfile.write(bytes(1 << 16))


def packed(handler, body, start):
    """A gigabyte of zeros in a megabyte."""
    import zlib

    packer = zlib.compressobj(wbits=31)
    handler.start(200, Content_Encoding="gzip", Connection="close")
    handler.hang_up()
    with contextlib.suppress(OSError):
        for _ in range(1024):
            handler.wfile.write(packer.compress(bytes(1 << 20)))


WAYS = {
    "well": ws.serve,
    "without length": ws.without_length,
    "in pieces": in_pieces,
    "cut": cut(),
    "cut without length": cut(length=False),
    "a length of 7": lies(7),
    "a length too large": lies(10**6),
    "a length of 3 GB": lies(3 << 30),
    "an endless body": endless,
    "an endless part": endless_part,
    "packed a thousand times": packed,
    "404": ws.status(404),
    "503": ws.status(503),
}
GOOD = ("well", "without length", "in pieces")  # these arrive
HEADS = {"405": ws.status(405), "no length": lambda handler, body, start: handler.start(200), **WAYS}
SLOW = ("drip", "stall", "slow", "continue")  # ways that only the time for a request ends
OTHERS = {name: way for name, (_, way) in MODES.items() if not any(word in name for word in SLOW)}


def http_case(lot):
    among = lot.choice((GOOD, list(WAYS), list(WAYS), list(OTHERS)))
    ways = [lot.choice(among) for _ in range(lot.choice((1, 2, 3)))]
    return {"ways": ways, "head": lot.choice((None, None, *HEADS))}


@contextlib.contextmanager
def short_of_patience():
    import aiohttp
    import fsspec
    from fsspec.implementations.http import HTTPFileSystem

    timeout = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=SECONDS)}}
    with (
        mock.patch.dict(fsspec.config.conf, {"http": timeout}),
        mock.patch.object(remote, "MAX_IMAGE_BYTES", LARGEST),
        mock.patch.object(remote, "RETRY_DELAYS", (0.0, 0.0)),
    ):
        HTTPFileSystem.clear_instance_cache()
        try:
            yield
        finally:
            HTTPFileSystem.clear_instance_cache()


def attempt_http(told):
    answers = [WAYS.get(name) or OTHERS[name] for name in told["ways"]]
    with short_of_patience(), ws.running(PICTURE, *answers) as server:
        server.head = HEADS[told["head"]] if told["head"] else None
        place = Url(server.url)
        with contextlib.suppress(InputError):
            access.decode_memory(place)
        try:
            photo = access.read(place)
        except InputError as error:
            # `GOOD` answer a HEAD with a body, too, which no client can tell from the next answer.
            well = set(told["ways"]) <= set(GOOD) and told["head"] in (None, "405", "no length")
            assert not well, f"a good answer was refused: {error}"
            return REFUSED
    assert (photo.image.pixels == whole().image.pixels).all(), "another image than the server's"
    return ACCEPTED


def whole():
    from gpen_core.images.codecs import decode

    return decode(PICTURE)


# Names


PARTS = ("a", "b", "..", ".", "/", "//", "\\", "\0", "::", "?", "*", "[x]", " ", "\ud800", "\udcff", "\u00fc", "%2e%2e", "~")
PARTS += ("zip://", "file:", ":", "con", "a" * 300, "\n", "\x1b[2J", "-", "#", "$HOME", ".png", "\u202e")


def names_case(lot):
    names = {"".join(lot.choice(PARTS) for _ in range(lot.choice((1, 2, 3, 6)))) + ".png" for _ in range(5)}
    return {"names": sorted(names), "recursive": lot.random() < 0.7, "stays": lot.random() < 0.3}


def attempt_names(told):
    """All are copied; the good one has to arrive, whatever the others are called."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    store.store.update({f"/in/{name}": memory_file(f"/in/{name}") for name in (*told["names"], "good.png")})
    with tempfile.TemporaryDirectory() as folder:
        out = "memory://out" if told["stays"] else str(Path(folder, "out"))
        try:
            outcomes = copied("memory://in", out, told["recursive"])
        except (InputError, OptionsError):  # two results of one name, say
            return REFUSED
        assert "memory://in/good.png" in [source for source, error in outcomes if error is None], "it cost another image"
        assert all(name.startswith(("/in/", "/out/")) for name in store.store), f"it wrote {sorted(store.store)}"
    return REFUSED if any(error for _, error in outcomes) else ACCEPTED


def memory_file(path):
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    return MemoryFile(MemoryFileSystem(), path, PICTURE)


def copied(argument, out, recursive):
    """(source, error) of each image that the argument stands for, read and written to its result's name."""
    with JobPlan(Sources((argument,), recursive=recursive), OutputSpec(parse_location(out))) as planned:
        return [(str(job.source), local.attempt(job, lambda job=job: copy(job)).error) for job in planned]


def copy(job):
    data = access.read(job.source).data
    assert data == PICTURE, "another image than its name's"
    access.write_bytes(job.target, data)


# Archives


def zip_case(lot):
    members = ["".join(lot.choice(PARTS) for _ in range(lot.choice((1, 2, 4)))) + ".png" for _ in range(3)]
    pattern = lot.choice(("*.png", "**/*.png", "", "a.png", "good.png", "deep", "deep/", "..", "*"))
    told = {"members": members, "pattern": pattern, "nested": lot.random() < 0.3, "recursive": lot.random() < 0.5}
    return {**told, "damage": lot.randrange(1 << 30) if lot.random() < 0.6 else None}


def zipped(told):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("good.png", "deep/good.png", *told["members"]):
            with contextlib.suppress(ValueError, IndexError):  # names that zipfile itself cannot write
                file.writestr(name, PICTURE)
    data = data.getvalue()
    return data if told["damage"] is None else damaged(dice("zip", told["damage"], 0), data)


def attempt_zip(told):
    from fsspec.implementations.zip import ZipFileSystem

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.zip")
        with zipfile.ZipFile(path, "w") as outer:
            outer.writestr("x.zip", zipped(told))
        path.write_bytes(path.read_bytes() if told["nested"] else zipped(told))
        chain = f"zip://x.zip::{path}" if told["nested"] else str(path)
        try:
            outcomes = copied(f"zip://{told['pattern']}::{chain}", str(Path(folder, "out")), told["recursive"])
        except (InputError, OptionsError):
            return REFUSED
        finally:
            ZipFileSystem.clear_instance_cache()
    is_whole = told["damage"] is None and told["pattern"] in ("good.png", "*.png")
    assert not is_whole or any(error is None for _, error in outcomes), f"none could be read: {outcomes}"
    return REFUSED if any(error for _, error in outcomes) else ACCEPTED


CASES = {"http": (http_case, attempt_http), "names": (names_case, attempt_names), "zip": (zip_case, attempt_zip)}


def case(format_name, seed, number):
    """What a server answers, what objects are called, or what is in an archive and how it is damaged."""
    told = CASES[format_name][0](dice(f"remote/{format_name}", seed, number))
    return json.dumps({"kind": format_name, **told}).encode()


def attempt(data):
    told = json.loads(data)
    return CASES[told["kind"]][1](told)

"""Servers that misbehave: by a table, each way with what must come of it, and by lot, several ways one after another.

Whatever a server does, the download brings the verified file or ends with `DownloadFailed`, in bounded time; nothing that
was not verified gets the file's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path

from gpen_core.errors import WeightsError
from gpen_core.weights.catalog import Entry, Source
from gpen_core.weights.download import Download, DownloadFailed
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.request import RetryPolicy

from .. import weights_server as ws
from .answers import BODY, HEADS, LISTINGS, MODES
from .damage import dice
from .entry import ACCEPTED, REFUSED

FILE = "GPEN-TRIAL.pth"
FORMATS = ("http",)


def patience():
    """As little as tells a slow server from a busy machine, and nothing is slept."""
    few = {"connect": 4.0, "read": 2.0, "answer": 4.0, "window": 2.0, "min_speed": 200.0, "max_tries": 3}
    return RetryPolicy(**few, sleep=lambda _: None, jitter=lambda: 1.0)


def structure_of(path):
    """Stands for what looks into a file that no digest vouches for."""
    if path.read_bytes() != BODY:
        raise WeightsError("was refused: it is not the file")


def download(folder, sources, pinned=True):
    sha256 = hashlib.sha256(BODY).hexdigest() if pinned else None
    entry = Entry("gpen-trial", FILE, "tests", "For tests.", tuple(sources), len(BODY) if pinned else None, sha256)
    return Download(entry, folder, DownloadOptions(), lambda *_: None, structure_of, patience()).run()


@contextlib.contextmanager
def misbehaving(answers, head=None, listing=None):
    """A server with these ways, and the source that names it."""
    with ws.running(BODY, *(MODES[name][1] for name in answers)) as server:
        server.head = HEADS[head][1] if head else None
        if listing:
            server.pages["/listing"] = LISTINGS[listing]
        yield server, Source(server.url, server.root + "/listing" if listing else None, "weights.pth", allows_http=True)


def check_folder(folder, arrived):
    """The verified file or none under its name, and nothing beside it that a later run would not clear up."""
    there = {path.name: path for path in folder.iterdir()}
    assert (FILE in there) == arrived and (not arrived or there[FILE].read_bytes() == BODY), "a file that was not verified"
    strange = [name for name in there if name != FILE and not name.endswith((".part", ".lock", ".gpen.json"))]
    assert not strange, f"it left {strange}"


def case(_, seed, number):
    """Which ways one after another, with which answers before the file; whether somebody behind it serves well."""
    lot = dice("server/http", seed, number)
    answers = [lot.choice(list(MODES)) for _ in range(lot.choice((1, 2, 3, 4)))]
    pinned = lot.random() < 0.6
    head, listing = (None, None) if pinned else (lot.choice((None, *HEADS)), lot.choice((None, None, *LISTINGS)))
    told = {"answers": answers, "head": head, "listing": listing, "pinned": pinned, "helped": lot.random() < 0.5}
    return json.dumps(told).encode()


def attempt(data):
    """Runs the download that `data` describes, then once more with a server that does well."""
    told = json.loads(data)
    with (
        tempfile.TemporaryDirectory() as folder,
        ws.running(BODY) as good,
        misbehaving(told["answers"], told["head"], told["listing"]) as (_, source),
    ):
        outcome = ACCEPTED
        try:
            download(Path(folder), [source, *([good.source] if told["helped"] else [])], told["pinned"])
        except DownloadFailed:
            outcome = REFUSED
        check_folder(Path(folder), outcome == ACCEPTED)
        assert outcome == ACCEPTED or not told["helped"], "the good source did not help"
        download(Path(folder), [good.source])
        check_folder(Path(folder), arrived=True)
    return outcome

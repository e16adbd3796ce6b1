"""All that is missing is fetched first; where nobody is there, that is said at once."""

import contextlib
import hashlib
import random
import socket
import time
from dataclasses import replace

import pytest
import weights_server as ws

from gpen_core.errors import MissingWeights
from gpen_core.progress import no_progress
from gpen_core.weights import catalog, folders
from gpen_core.weights import prefetch as prefetching
from gpen_core.weights.catalog import Entry, Source
from gpen_core.weights.download import Download, DownloadFailed
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.prefetch import WeightRequest, prefetch
from gpen_core.weights.request import RetryPolicy
from gpen_core.weights.store import Store

BODIES = {"large": random.Random(1).randbytes(300_000), "small": random.Random(2).randbytes(50_000)}


def entry(name, *sources):
    body = BODIES[name]
    return Entry(name, f"{name}.pth", "tests", "for tests only", sources, len(body), hashlib.sha256(body).hexdigest())


@pytest.fixture
def known(monkeypatch):
    def make(**sources):
        entries = {name: entry(name, *some) for name, some in sources.items()}
        monkeypatch.setattr(
            prefetching, "resolve_path", lambda name, places: folders.find_file(name, places) or entries[name]
        )
        monkeypatch.setattr(folders, "find_entry", entries.get)
        monkeypatch.setattr("gpen_core.weights.store.resolve_path", prefetching.resolve_path)

    return make


def nowhere():
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Source(f"http://127.0.0.1:{probe.getsockname()[1]}/x.pth", allows_http=True)


def wanted(tmp_path, offline=False):
    stores = [Store([tmp_path / place], DownloadOptions(offline)) for place in ("models", "aside")]
    return [WeightRequest(store, name, lambda *_: None) for store, name in zip(stores, ("large", "small"))]


def test_the_smaller_comes_first_and_bytes_are_counted_together(known, tmp_path):
    told = []
    with contextlib.ExitStack() as servers:
        serving = {name: servers.enter_context(ws.running(body)) for name, body in BODIES.items()}
        known(**{name: [server.source] for name, server in serving.items()})
        prefetch(wanted(tmp_path), told.append)
    assert (tmp_path / "models" / "large.pth").read_bytes() == BODIES["large"]
    assert (tmp_path / "aside" / "small.pth").read_bytes() == BODIES["small"]
    assert {event.unit for event in told} == {"byte"} and {event.stage for event in told} == {"download", "verify"}
    counted = [(event.done, event.total) for event in told if event.total]
    assert {total for _, total in counted} == {350_000} and counted[-1][0] == 350_000
    assert [done for done, _ in counted] == sorted(done for done, _ in counted)
    assert "small.pth" in told[0].text and "file 1 of 2" in told[0].text and "file 2 of 2" in told[-1].text


@pytest.mark.parametrize(("sizes", "text"), [((None, 50_000), "more than 50,000 bytes"), ((None, None), "unknown size")])
def test_files_of_unknown_size_are_not_counted_as_empty(monkeypatch, tmp_path, sizes, text):
    entries = {name: replace(entry(name, nowhere()), bytes=size) for name, size in zip(("large", "small"), sizes)}
    monkeypatch.setattr(prefetching, "resolve_path", lambda name, places: entries[name])
    with pytest.raises(MissingWeights, match=f"2 files are missing, {text} in total"):
        prefetch(wanted(tmp_path, offline=True), no_progress)


def test_what_cannot_be_had_is_said_before_the_larger_is_fetched(known, tmp_path):
    with ws.running(BODIES["large"]) as server:
        known(large=[server.source], small=[nowhere()])
        start = time.monotonic()
        with pytest.raises(DownloadFailed, match=r"(?s)small\.pth.*Also missing: large\.pth \(300,000 bytes\)"):
            prefetch(wanted(tmp_path), no_progress)
        assert time.monotonic() - start < 10 and not server.requests
    assert not list(tmp_path.rglob("large.pth*"))


def test_offline_all_that_is_missing_is_named(known, tmp_path):
    known(large=[nowhere()], small=[nowhere()])
    with pytest.raises(MissingWeights, match=r"2 files are missing") as raised:
        prefetch(wanted(tmp_path, offline=True), lambda *_: None)
    assert all(f"{name}.pth" in str(raised.value) for name in BODIES) and "\n" in str(raised.value)


@pytest.mark.parametrize("source", ["refused", "unknown"])
def test_where_nobody_is_there_it_is_said_soon(tmp_path, source, monkeypatch):
    def resolve(host, *more, **others):
        if host == "127.0.0.1":
            return known(host, *more, **others)
        raise socket.gaierror(-2, "Name or service not known")

    known = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    sources = {"refused": nowhere(), "unknown": Source("https://no-such-host.invalid/x.pth")}
    waits = []
    patience = RetryPolicy(sleep=waits.append, jitter=lambda: 1.0)
    with pytest.raises(DownloadFailed, match="did not answer"):
        Download(entry("small", sources[source]), tmp_path, DownloadOptions(), lambda *_: None, print, patience).run()
    assert sum(waits) == pytest.approx(1.0)  # one wait, before the second and last try


def test_the_catalog_knows_sizes():
    assert all(one.bytes or one.approximate_bytes for one in catalog.CATALOG if one.name != "realesrnet_x4")

"""Sources that send so slowly that no timeout between two bytes ends them: given up, and cancelled while they drip."""

import socket
import threading
import time

import pytest
import weights_server as ws

from gpen_core.errors import Interrupted
from gpen_core.progress import no_progress
from gpen_core.weights import remote_digest
from gpen_core.weights.catalog import Entry, Source
from gpen_core.weights.download import Download, DownloadFailed
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.request import RetryPolicy

BODY = bytes(range(256)) * 400
ENTRY = {"file": "GPEN-TEST.pth", "purpose": "tests", "license": "For tests."}
SLOW = {"headers": ws.drip_headers, "continue": ws.continue_for_ever, "body": ws.drip_body}
LONG = 60.0  # seconds: a test that comes to it fails, and does not hang


def patience(**changes):
    few = {"connect": 2, "read": 5, "answer": 0.5, "window": 0.5, "sleep": lambda _: None}
    return RetryPolicy(**{**few, **changes})


def download(folder, sources, progress=no_progress, **changes):
    entry = Entry("gpen-test", sources=tuple(sources), **ENTRY)
    return Download(entry, folder, DownloadOptions(), progress, lambda path: None, patience(**changes))


@pytest.fixture
def slow(request):
    with ws.running(BODY, SLOW[request.param]) as server:
        yield server


@pytest.mark.parametrize("slow", SLOW, indirect=True)
def test_a_slow_source_is_hung_up_on_and_the_next_one_takes_over(slow, tmp_path):
    with ws.running(BODY) as good:
        path = download(tmp_path, [slow.source, good.source], answer=2.0).run()  # a busy machine's good source, too
    assert path.read_bytes() == BODY
    assert slow.hung_up.wait(LONG)


@pytest.mark.parametrize("slow", SLOW, indirect=True)
def test_a_slow_source_alone_is_an_error_that_says_so(slow, tmp_path):
    with pytest.raises(DownloadFailed, match=r"did not answer within|bytes per second"):
        download(tmp_path, [slow.source]).run()
    assert slow.hung_up.wait(LONG)


@pytest.mark.parametrize("slow", SLOW, indirect=True)
@pytest.mark.slow
def test_whoever_waits_is_told_again_and_again_and_can_stop(slow, tmp_path):
    told = []

    def progress(event):
        told.append(event.text)
        if len(told) == 5:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        download(tmp_path, [slow.source], progress, answer=LONG, window=LONG).run()
    assert slow.hung_up.wait(LONG)


@pytest.mark.parametrize("kind", ["headers", "continue"])
@pytest.mark.slow
def test_a_head_or_a_listing_that_drips_is_given_up(kind):
    with ws.running(BODY, SLOW[kind]) as server:
        server.head = SLOW[kind]
        assert remote_digest.fetch_info(server.source, patience()) == remote_digest.RemoteDigest()
        assert server.hung_up.wait(LONG)
        server.hung_up.clear()
        listed = Source(server.url, listing=server.url, path="x", allows_http=True)
        assert remote_digest.fetch_info(listed, patience()) == remote_digest.RemoteDigest()
        assert server.hung_up.wait(LONG)


def test_a_listing_whose_body_drips_is_given_up():
    with ws.running(BODY, ws.drip_body) as server:
        listed = Source(server.url, listing=server.url, path="x", allows_http=True)
        assert remote_digest.fetch_info(listed, patience()) == remote_digest.RemoteDigest()
        assert server.hung_up.wait(LONG)


@pytest.mark.slow
def test_no_thread_and_no_descriptor_stays_behind(tmp_path):
    """After sources that drip, that are stopped and that serve well."""
    before = threading.active_count()
    with ws.running(BODY, ws.drip_headers) as slow, ws.running(BODY) as good:
        for number in range(3):
            download(tmp_path / str(number), [slow.source, good.source]).run()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(LONG / 100)
    assert threading.active_count() <= before


UNREACHED = {
    "resolve": ("nobody.invalid", "getaddrinfo", socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
    "timed out": ("127.0.0.1:9", "socket", TimeoutError("timed out")),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("words", UNREACHED)
def test_whom_nobody_reaches_is_told_without_the_librarys_objects(tmp_path, monkeypatch, words, scheme):
    host, name, error = UNREACHED[words]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(socket, name, fail)
    with pytest.raises(DownloadFailed, match=rf"did not answer \([A-Z].*{words}") as failed:
        download(tmp_path, [Source(f"{scheme}://{host}/x.pth", allows_http=True)]).run()
    assert "object at" not in str(failed.value)


def test_a_source_that_breaks_off_and_is_busy_in_turn_is_measured_over_all_its_tries(tmp_path):
    """A few bytes a connection earned it all tries again: 16 KB and three 503s each made 92 bytes a second."""
    turn = [ws.drop_after(20_000), *[ws.status(503)] * 3]
    with ws.running(BODY * 20, *turn * 125) as server:
        with pytest.raises(DownloadFailed, match=r"503|closed the connection"):
            download(tmp_path, [server.source], window=0.1, min_speed=1e9).run()
        assert 5 <= len(server.gets) < 50  # of 500 that the whole file would take


def test_a_source_that_breaks_off_but_is_fast_enough_has_all_its_tries_each_time(tmp_path):
    turn = [ws.drop_after(20_000), *[ws.status(503)] * 3]
    with ws.running(BODY, *turn * 10) as server:
        path = download(tmp_path, [server.source], window=0.01, min_speed=10, answer=LONG).run()
    assert path.read_bytes() == BODY

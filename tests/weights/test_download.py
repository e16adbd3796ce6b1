"""One file over HTTP from a server on 127.0.0.1 that misbehaves: fault -> what happens -> what lies in the folder."""

import contextlib
import errno
import hashlib
import logging
import os
import random
import shutil
import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
import weights_server as ws
from filelock import FileLock

from gpen_core import ProgressEvent
from gpen_core.errors import Interrupted, OptionsError
from gpen_core.files import stale_temp
from gpen_core.files.process_id import hostname
from gpen_core.progress import no_progress
from gpen_core.weights import partial_file
from gpen_core.weights.catalog import Entry, Source
from gpen_core.weights.download import Download, DownloadFailed
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.http_stream import CHUNK_SIZE
from gpen_core.weights.request import RetryPolicy

BODY = random.Random(5).randbytes(400_000)
OTHER = random.Random(6).randbytes(400_000)
FILE = "GPEN-TEST.pth"


def entry_of(*sources, body=BODY, **changes):
    pinned = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), **changes}
    return Entry("gpen-test", FILE, "tests", "Test weights: for tests only.", tuple(sources), **pinned)


@pytest.fixture
def waits():
    return []


@pytest.fixture
def fetch(tmp_path, waits):
    """Runs a download into tmp_path/models with little patience; sleeping is only noted."""

    def run(*sources, progress=no_progress, options=DownloadOptions(), check=lambda path: None, **changes):  # noqa: B008
        patience = RetryPolicy(connect=2, read=0.4, sleep=waits.append, jitter=lambda: 1.0)
        entry = entry_of(*(s.source if isinstance(s, ws.Server) else s for s in sources), **changes)
        return Download(entry, tmp_path / "models", options, progress, check, patience).run()

    return run


@pytest.fixture
def serve():
    """Starts a server with these answers; it ends with the test."""
    with contextlib.ExitStack() as servers:
        yield lambda *answers, body=BODY: servers.enter_context(ws.running(body, *answers))


def lying_there(tmp_path):
    """Name -> bytes of what is in the folder, without the lock."""
    files = {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    return {name: data for name, data in files.items() if not name.endswith(".lock")}


def test_a_file_arrives_with_its_name_and_nothing_else(fetch, serve, tmp_path, caplog):
    server = serve()
    told = []
    with caplog.at_level(logging.WARNING):
        assert fetch(server, progress=told.append) == tmp_path / "models" / FILE
    assert lying_there(tmp_path) == {FILE: BODY}
    assert len(server.gets) == 1 and "Range" not in server.gets[0].headers
    assert server.gets[0].headers["Accept-Encoding"] == "identity"
    assert [r.message for r in caplog.records] == ["Downloading GPEN-TEST.pth. Test weights: for tests only."]
    assert told[-1] == ProgressEvent("verify", len(BODY), len(BODY), "byte", "Verifying GPEN-TEST.pth")
    assert {(event.stage, event.unit) for event in told[:-1]} == {("download", "byte")}
    assert all(0 <= event.done <= event.total for event in told)
    assert fetch(server) and len(server.gets) == 1  # it is there: nobody is asked


# What the server does -> the words of the error, and how much of the file stays for the next run (None: arrived whole).
FAULTS = {
    "truncates, then goes on": ([ws.drop_after(150_000), ws.serve], None),
    "drops at every tenth": ([ws.drop_after(40_000)], None),
    "drops at every tenth and ignores Range": ([ws.ignore_range(ws.drop_after(40_000))], ("closed the connection", 1)),
    "stalls once": ([ws.stall_after(200_000), ws.serve], None),
    "stalls before the first byte": ([ws.stall_after(0)], ("closed the connection", 0)),
    "never sends more than half": (
        [ws.drop_after(200_000), ws.drop_after(0)],
        ("closed the connection", 200_000 - CHUNK_SIZE),
    ),
    "ignores Range": ([ws.drop_after(150_000), ws.ignore_range()], None),
    "sends another part": ([ws.drop_after(150_000), ws.wrong_range, ws.serve], None),
    "answers 416": ([ws.drop_after(150_000), ws.status(416), ws.serve], None),
    "always 416 to a range": ([ws.drop_after(150_000), ws.status(416)], ("answered 416", 0)),
    "answers 429 twice": ([ws.status(429), ws.status(429), ws.serve], None),
    "answers 500 for ever": ([ws.status(500)], ("answered 500", 0)),
    "answers 503 amid the file": ([ws.drop_after(150_000), ws.status(503), ws.serve], None),
    "answers 404": ([ws.status(404)], ("answered 404", 0)),
    "announces too little": ([ws.announce(1000)], ("serves a file of 1,000 bytes, expected 400,000", 0)),
    "announces too much": ([ws.announce(10**9)], ("serves a file of 1,000,000,000 bytes", 0)),
    "continues with a shorter file": (
        [ws.drop_after(150_000), ws.ignore_range(ws.announce(1000))],
        ("serves a file of 1,000 bytes", 150_000 - CHUNK_SIZE),
    ),
    "announces nothing": ([ws.without_length], None),
    "announces nothing and sends too much": ([ws.other(BODY * 2), ws.without_length], ("serves a file of 800,000", 0)),
    "serves HTML": ([ws.page()], ("sent a web page", 0)),
    "serves HTML as a file": ([ws.page("application/octet-stream")], ("serves a file of 62 bytes", 0)),
    "serves another file": ([ws.other(OTHER)], ("expected " + hashlib.sha256(BODY).hexdigest(), 0)),
    "changes the file halfway": ([ws.drop_after(150_000), ws.other(OTHER)], ("The file was deleted", 0)),
    "changes halfway and back": ([ws.drop_after(150_000), ws.other(OTHER), ws.serve], None),
    "redirects to http": (
        [ws.redirect("http://127.0.0.1:1/x")],
        ("redirects to http://127.0.0.1:1/x, which is not https", 0),
    ),
    "redirects to a file": ([ws.redirect("file:///etc/passwd")], ("which is not https", 0)),
    "redirects to no address": ([ws.redirect("http://[::1")], ("redirects to an invalid URL", 0)),
    "announces a length of 5,000 digits": ([ws.announce_as("9" * 5000)], None),
    "announces a length in other scripts' digits": ([ws.announce_as("\u00b2\u00b3")], None),
    "sends a chunk of less than nothing": ([ws.negative_chunk_size], ("closed the connection", 0)),
    "redirects to ftp": ([ws.redirect("ftp://example.com/x")], ("which is not https", 0)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_a_faulty_server(fetch, serve, tmp_path, fault):
    answers, expected = FAULTS[fault]
    server = serve(*answers)
    if expected is None:
        assert fetch(server).read_bytes() == BODY
        assert lying_there(tmp_path) == {FILE: BODY}
        return
    words, kept = expected
    with pytest.raises(DownloadFailed) as failed:
        fetch(server)
    for part in (words, server.url, str(tmp_path / "models"), FILE, "$GPEN_MIRROR", "by hand", "for tests only"):
        assert part in str(failed.value)
    (left,) = lying_there(tmp_path).items() or [("", b"")]
    assert FILE not in lying_there(tmp_path)
    if kept == 0:
        assert lying_there(tmp_path) == {}
    else:
        assert left[0].endswith(".part") and len(left[1]) >= kept and BODY.startswith(left[1])
    with ws.running(BODY) as good:  # whatever lies there, the next run ends well
        assert fetch(good).read_bytes() == BODY
        assert good.gets[0].start == len(left[1])
    assert lying_there(tmp_path) == {FILE: BODY}


def test_a_server_that_is_not_there(fetch, tmp_path):
    with ws.running(BODY) as server:
        source = server.source
    with pytest.raises(DownloadFailed, match="did not answer"):
        fetch(source)
    assert lying_there(tmp_path) == {}


@pytest.mark.parametrize("first", [[ws.status(404)], [ws.page()], [ws.other(OTHER)], [ws.status(500)], [ws.drop_after(9)]])
def test_the_next_source_takes_over(fetch, serve, tmp_path, first):
    bad, good = serve(*first), serve()
    assert fetch(bad, good).read_bytes() == BODY
    assert lying_there(tmp_path) == {FILE: BODY}


def test_the_next_source_continues_what_the_first_began(fetch, serve):
    first, second = serve(ws.drop_after(300_000), ws.status(404)), serve()
    fetch(first, second)
    assert 300_000 - CHUNK_SIZE < second.gets[0].start <= 300_000


def test_a_bad_beginning_by_one_source_does_not_spoil_the_next(fetch, serve, tmp_path):
    liar, honest = serve(ws.drop_after(300_000), ws.status(404), body=OTHER), serve()
    assert fetch(liar, honest).read_bytes() == BODY
    assert [r.start > 0 for r in honest.gets] == [True, False]


def test_https_is_demanded_of_every_source_that_the_user_did_not_name(fetch, serve):
    server = serve()
    with pytest.raises(DownloadFailed, match="which is not https"):
        fetch(Source(server.url))
    assert server.requests == []


def test_waits_are_doubled_and_what_the_server_asks_is_respected(fetch, serve, waits):
    with pytest.raises(DownloadFailed, match="answered 500"):
        fetch(serve(ws.status(500)))
    assert sum(waits) == pytest.approx(1 + 2 + 4 + 8)
    waits.clear()
    fetch(serve(ws.status(429, Retry_After=7), ws.status(429, Retry_After=9999), ws.serve))
    assert sum(waits) == pytest.approx(7 + 60)
    assert max(waits) <= 0.2  # in steps, so that it can be cancelled


def test_a_server_may_ask_to_be_left_alone_until_a_date(fetch, serve, waits):
    date = formatdate(time.time() + 20, usegmt=True)
    fetch(serve(ws.status(429, Retry_After=date), ws.serve))
    assert 15 < sum(waits) < 20.5


@pytest.mark.parametrize("nonsense", ["soon", "-1", "9" * 5000, "\u00b2"])
def test_a_wait_that_cannot_be_is_no_obstacle(fetch, serve, nonsense):
    assert fetch(serve(ws.status(429, Retry_After=nonsense), ws.serve)).read_bytes() == BODY


def test_the_jitter_takes_up_to_half_off():
    waits = [RetryPolicy(jitter=lambda share=share: share).delay(3, 0) for share in (0.0, 0.5, 1.0)]
    assert waits == [2.0, 3.0, 4.0]
    assert RetryPolicy(jitter=lambda: 1.0).delay(50, 0) == 30


def test_a_trickle_is_given_up(serve, tmp_path):
    server = serve(ws.slowly(16384, 0.05))
    patience = RetryPolicy(connect=2, read=2, window=0.1, min_speed=1e9)
    with pytest.raises(DownloadFailed, match="bytes per second"):
        Download(entry_of(server.source), tmp_path, DownloadOptions(), lambda *_: None, print, patience).run()


# Stopping and going on


class Stop:
    """Stops a download at a number of bytes."""

    def __init__(self, at):
        self.at = at

    def __call__(self, event):
        if event.done >= self.at:
            raise Interrupted("stopped")


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
def test_stopping_keeps_what_came(fetch, serve, tmp_path, error):
    def stop(event):
        if event.done > 150_000:
            raise error("stopped")

    server = serve(ws.slowly(16384, 0.02))
    with pytest.raises(error):
        fetch(server, progress=stop)
    ((name, data),) = lying_there(tmp_path).items()
    assert name.endswith(".part") and len(data) > 150_000 and BODY.startswith(data)
    fetch(server)
    assert server.gets[1].start == len(data)
    assert lying_there(tmp_path) == {FILE: BODY}


def test_stopping_while_waiting_for_the_server(fetch, serve):
    def stop(event):
        if "Waiting for the server" in event.text:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        fetch(serve(ws.status(503)), progress=stop)


def test_stopping_while_another_process_downloads(fetch, serve, tmp_path):
    def stop(event):
        assert event == ProgressEvent("download", 0, None, "byte", "Waiting for another download of GPEN-TEST.pth")
        raise Interrupted("stopped")

    (tmp_path / "models").mkdir()
    server = serve()
    with FileLock(tmp_path / "models" / f".{FILE}.lock"), pytest.raises(Interrupted):
        fetch(server, progress=stop)
    assert server.requests == []


@pytest.mark.skipif(os.name != "posix", reason="replaces a function of POSIX systems")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_still_downloads(fetch, serve, monkeypatch, code):
    """NFS without its lock daemon reports ENOLCK."""

    def unsupported(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert fetch(serve()).read_bytes() == BODY


# Unfinished files


def part(tmp_path, data, owner="", body=BODY):
    """Lays down what a run has left behind; `owner` is HOST-PID-RANDOM of one that was killed."""
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    key = hashlib.sha256(hashlib.sha256(body).hexdigest().encode()).hexdigest()[:16]
    path = folder / f".{FILE}.{key}{'.' + owner if owner else ''}.part"
    path.write_bytes(data)
    return path


def test_what_a_killed_process_left_is_continued(fetch, serve, tmp_path):
    part(tmp_path, BODY[:100_000])
    part(tmp_path, BODY[:250_000], f"{hostname()}-999999999-0123456789ab")
    server = serve()
    fetch(server)
    assert server.gets[0].start == 250_000
    assert lying_there(tmp_path) == {FILE: BODY}  # and the shorter one is gone


@pytest.mark.skipif(os.name != "posix", reason="elsewhere an open file cannot be renamed")
def test_what_another_process_is_writing_is_left_alone(fetch, serve, tmp_path):
    """Where a file system grants the lock to everyone."""
    busy = [
        part(tmp_path, BODY[:250_000], f"{hostname()}-{os.getpid()}-0123456789ab"),
        part(tmp_path, b"x", "elsewhere-7-0123456789ab"),
    ]
    server = serve()
    fetch(server)
    assert server.gets[0].start == 0
    assert sorted(lying_there(tmp_path)) == sorted([FILE, *(path.name for path in busy)])


def test_what_nobody_has_touched_for_long_is_taken_over(fetch, serve, tmp_path):
    old = part(tmp_path, BODY[:250_000], "elsewhere-7-0123456789ab")
    os.utime(old, (1, 1))
    server = serve()
    fetch(server)
    assert server.gets[0].start == 250_000
    assert lying_there(tmp_path) == {FILE: BODY}


def test_what_was_taken_over_looks_alive_before_its_first_byte(tmp_path, monkeypatch):
    """Else another machine would take it over, too."""
    old = part(tmp_path, BODY[:250_000], "elsewhere-7-0123456789ab")
    os.utime(old, (1, 1))
    target = tmp_path / "models" / FILE
    identity = hashlib.sha256(BODY).hexdigest()
    mine = partial_file.acquire(target, identity)
    assert mine.size == 250_000 and time.time() - mine.path.stat().st_mtime < 60
    monkeypatch.setattr(stale_temp, "hostname", lambda: "another")
    assert partial_file.acquire(target, identity).size == 0 and mine.path.exists()


def test_what_is_gone_before_it_is_looked_at_is_no_error(tmp_path, monkeypatch):
    gone = part(tmp_path, b"")
    part(tmp_path, BODY[:1000], f"{hostname()}-999999999-0123456789ab")
    there = [path.name for path in gone.parent.iterdir()]
    gone.unlink()
    monkeypatch.setattr(os, "listdir", lambda folder: there)
    target, identity = tmp_path / "models" / FILE, hashlib.sha256(BODY).hexdigest()
    assert partial_file.acquire(target, identity).size == 1000
    assert partial_file.acquire(target, identity).size == 0  # both are gone


def test_a_whole_file_that_only_lacks_its_name_is_not_fetched_again(fetch, serve, tmp_path):
    part(tmp_path, BODY)
    server = serve()
    fetch(server)
    assert server.requests == [] and lying_there(tmp_path) == {FILE: BODY}


@pytest.mark.parametrize("rubbish", [OTHER[:100_000], OTHER, OTHER + OTHER])
def test_a_wrong_beginning_is_noticed_and_fetched_again(fetch, serve, tmp_path, rubbish):
    part(tmp_path, rubbish)
    assert fetch(serve()).read_bytes() == BODY
    assert lying_there(tmp_path) == {FILE: BODY}


def test_a_part_of_another_file_is_not_continued(fetch, serve, tmp_path):
    part(tmp_path, OTHER[:100_000], body=OTHER)
    server = serve()
    fetch(server)
    assert server.gets[0].start == 0


# The folder


def test_a_full_disk_is_noticed_before(fetch, serve, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9 - 10**6, free=10**6))
    server = serve()
    with pytest.raises(DownloadFailed, match=r"disk is full \(17 MB needed, 1.0 MB free\).*another models folder"):
        fetch(server)
    assert server.requests == []


def test_a_disk_that_fills_up_keeps_what_came(fetch, serve, tmp_path, monkeypatch):
    open_append = partial_file.PartialFile.open_append

    @contextlib.contextmanager
    def filling_up(self):
        def append(data):
            if self.size > 200_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            add(data)

        with open_append(self) as add:
            yield append

    monkeypatch.setattr(partial_file.PartialFile, "open_append", filling_up)
    with pytest.raises(DownloadFailed, match="disk is full"):
        fetch(serve())
    ((name, data),) = lying_there(tmp_path).items()
    assert name.endswith(".part") and len(data) > 200_000
    monkeypatch.undo()
    server = serve()
    fetch(server)
    assert server.gets[0].start == len(data)


def test_a_folder_that_cannot_be_made(fetch, serve, tmp_path):
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(DownloadFailed, match=r"cannot be downloaded into .*models\..*another models folder"):
        fetch(serve())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_read_only_folder(fetch, serve, tmp_path):
    (tmp_path / "models").mkdir(mode=0o555)
    with pytest.raises(DownloadFailed, match="The folder is not writable"):
        fetch(serve())


def test_a_read_only_file_system(fetch, serve, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(DownloadFailed, match=r"The folder is not writable.*another models folder"):
        fetch(serve())


# Options


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("", False)]
)
@pytest.mark.parametrize("name", ["GPEN_OFFLINE", "HF_HUB_OFFLINE"])
def test_the_environment_can_switch_downloads_off(monkeypatch, name, value, offline):
    monkeypatch.delenv("GPEN_OFFLINE")  # the tests' own
    monkeypatch.setenv(name, value)
    assert DownloadOptions.from_environment().offline is offline
    assert DownloadOptions.from_environment(offline=True).offline is True


def test_a_mirror_comes_from_the_option_or_the_environment(monkeypatch):
    monkeypatch.setenv("GPEN_MIRROR", "https://a.example/gpen")
    assert DownloadOptions.from_environment().mirror == "https://a.example/gpen"
    assert DownloadOptions.from_environment(mirror="http://b.example").mirror == "http://b.example"
    monkeypatch.setenv("GPEN_MIRROR", "")
    assert DownloadOptions.from_environment().mirror is None
    for wrong in ("ftp://a.example", "/srv/weights", "a.example/gpen", "http://[::1"):
        with pytest.raises(OptionsError, match="http or https"):
            DownloadOptions(mirror=wrong)


def test_a_mirror_is_asked_first(fetch, serve):
    mirror, source = serve(), serve()
    mirror.pages[f"/some/where/{FILE}"] = lambda handler, body, start: ws.serve(handler, BODY, start)
    fetch(source, options=DownloadOptions(mirror=f"{mirror.root}/some/where/"))
    assert [r.path for r in mirror.requests] == [f"/some/where/{FILE}"] and source.requests == []


def test_a_wrong_mirror_is_passed_over(fetch, serve):
    mirror, source = serve(), serve()
    mirror.pages[f"/{FILE}"] = lambda handler, body, start: ws.serve(handler, OTHER, start)
    assert fetch(source, options=DownloadOptions(mirror=mirror.root)).read_bytes() == BODY


def test_proxies_come_from_the_environment(fetch, serve, monkeypatch):
    """The proxy is the server: it is asked for the whole address."""
    proxy = serve()
    proxy.pages["http://weights.invalid/weights.pth"] = lambda handler, body, start: ws.serve(handler, BODY, start)
    monkeypatch.setenv("http_proxy", proxy.root)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch(Source("http://weights.invalid/weights.pth", allows_http=True)).read_bytes() == BODY


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_planted_link_is_not_written_through(fetch, serve, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    folder = tmp_path / "models"
    folder.mkdir()
    link = part(tmp_path, b"")
    link.unlink()
    link.symlink_to(victim)
    (folder / f".{FILE}.gpen.json.{os.getpid()}.part").symlink_to(victim)
    assert fetch(serve()).read_bytes() == BODY
    assert victim.read_bytes() == b"mine"
    (folder / FILE).unlink()
    (folder / f".{FILE}.lock").unlink(missing_ok=True)
    (folder / f".{FILE}.lock").symlink_to(victim)
    with pytest.raises(DownloadFailed, match="is a link, not a lock file"):
        fetch(serve())
    assert victim.read_bytes() == b"mine"
    mine = partial_file.acquire(folder / "other.pth", "identity")
    mine.path.unlink()
    mine.path.symlink_to(victim)
    with pytest.raises(OSError), mine.open_append() as append:
        append(b"x")
    assert victim.read_bytes() == b"mine"

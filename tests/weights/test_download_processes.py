"""Several processes, and processes that are killed: always one right file."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import weights_server as ws

from gpen_core.weights.http_stream import CHUNK_SIZE

ROOT = Path(__file__).resolve().parents[2]
BODY = random.Random(11).randbytes(3_000_000)
FILE = "GPEN-TEST.pth"
SENT_AT_ONCE = 16384

CHILD = """
import sys
from pathlib import Path
from gpen_core.weights.catalog import Entry, Source
from gpen_core.weights.download import Download
from gpen_core.weights.download_options import DownloadOptions
url, size, sha256, folder = sys.argv[1:]
entry = Entry("gpen-test", "GPEN-TEST.pth", "tests", "For tests.", (Source(url, allows_http=True),), int(size), sha256)
print(Download(entry, Path(folder), DownloadOptions(), lambda *told: None, lambda path: None).run())
"""


def child(server, folder):
    arguments = [server.url, str(len(BODY)), hashlib.sha256(BODY).hexdigest(), str(folder)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return Path(out.strip())


def unfinished(folder):
    """The only unfinished download, or None."""
    parts = list(folder.glob(".*.part")) if folder.is_dir() else []
    assert len(parts) <= 1
    return parts[0] if parts else None


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
def test_eight_processes_download_once(tmp_path):
    with ws.running(BODY, ws.slowly(SENT_AT_ONCE, 0.003)) as server:
        children = [child(server, tmp_path) for _ in range(8)]
        assert {finish(process) for process in children} == {tmp_path / FILE}
    assert len(server.gets) == 1 and server.sent == len(BODY)
    assert (tmp_path / FILE).read_bytes() == BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{FILE}.lock", FILE]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_right_file(tmp_path):
    moments, kept = random.Random(3), [0]
    with ws.running(BODY, ws.slowly(SENT_AT_ONCE, 0.003)) as server:
        for _ in range(20):
            target = min(server.sent + moments.randrange(1, len(BODY) // 12), len(BODY) - 1)
            asked = len(server.gets)
            process = child(server, tmp_path)
            wait_for(lambda: process.poll() is not None or (len(server.gets) > asked and server.sent >= target))  # noqa: B023
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            assert process.returncode in (-signal.SIGKILL, 0)
            assert not (tmp_path / FILE).exists() or (tmp_path / FILE).read_bytes() == BODY
            data = unfinished(tmp_path).read_bytes() if unfinished(tmp_path) else b""
            assert BODY.startswith(data)
            kept.append(len(data))
        finish(child(server, tmp_path))
    assert (tmp_path / FILE).read_bytes() == BODY
    assert [request.start for request in server.gets] == kept[: len(server.gets)]  # nothing on disk is asked for again
    assert len(server.gets) > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{FILE}.lock", FILE]


def test_a_kill_loses_less_than_a_chunk_of_what_was_received(tmp_path):
    """The server sends a piece and waits: whatever it sent before the last chunk is on disk."""
    with ws.running(BODY, ws.stall_after(10 * CHUNK_SIZE + 100, seconds=20)) as server:
        process = child(server, tmp_path)
        wait_for(lambda: (part := unfinished(tmp_path)) and part.stat().st_size >= 10 * CHUNK_SIZE)
        process.kill()
        process.communicate()
        size = unfinished(tmp_path).stat().st_size
        server.answers = [ws.serve]
        finish(child(server, tmp_path))
    assert [request.start for request in server.gets] == [0, size]
    assert 10 * CHUNK_SIZE <= size <= 10 * CHUNK_SIZE + 100

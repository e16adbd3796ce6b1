"""`gpen restore --ray` with an object store, a full disk and a machine that leaves. Needs Ray; the store moto and s3fs."""

import http.client
import http.server
import json
import subprocess
import threading
import time
from collections import Counter

import pytest
from cli_fixtures import file_names
from ray_fixtures import write_photos

pytest_plugins = ["cli_fixtures", "ray_fixtures"]
pytestmark = pytest.mark.slow
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture
def photos(tmp_path, portrait):
    """Eight, each another, in a folder."""
    return write_photos(tmp_path / "in", portrait, 8)


def told(path):
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["input"].rpartition("/")[2]: row for row in rows if row["row"] == "image"}


@pytest.fixture
def store(monkeypatch):
    """A bucket behind a door that answers 503: by object, how many times that is (-1: for ever), and how often it did."""
    fsspec, s3fs = pytest.importorskip("fsspec"), pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    left, said = {}, Counter()
    door = http.server.ThreadingHTTPServer(("127.0.0.1", 0), door_to(moto.get_host_and_port(), left, said))
    threading.Thread(target=door.serve_forever, daemon=True).start()
    given = {"endpoint_url": f"http://127.0.0.1:{door.server_port}", "key": "x", "secret": "x"}
    for name, value in given.items():  # for the workers
        monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore's own
    monkeypatch.setitem(fsspec.config.conf, "s3", given)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = fsspec.filesystem("s3")
    if not bucket.exists("cluster"):  # moto keeps them for the process
        bucket.mkdir("cluster")
    yield bucket, left, said
    s3fs.S3FileSystem.clear_instance_cache()
    door.shutdown()
    door.server_close()
    moto.stop()


def door_to(address, left, said):
    class Door(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = self.path.partition("?")[0].rpartition("/")[2]
            if left.get(name, 0):
                left[name] -= 1
                said[name] += 1
                self.answer(503, {}, SLOW_DOWN)
                return
            behind = http.client.HTTPConnection(*address)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            self.answer(answer.status, dict(answer.getheaders()), answer.read())
            behind.close()

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def answer(self, status, headers, data):
            self.send_response(status)
            dropped = ("connection", "transfer-encoding", "date", "server")
            length = {"Content-Length": str(len(data))} if self.command != "HEAD" or status == 503 else {}
            for name, value in {**{k: v for k, v in headers.items() if k.lower() not in dropped}, **length}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_): ...

    return Door


def test_a_store_that_is_busy_for_a_while_or_for_ever(ray, restore, store, photos, tmp_path):
    bucket, left, said = store
    for path in photos.iterdir():
        bucket.pipe_file(f"cluster/in/deep/{path.name}", path.read_bytes())
    left.update({"02.png": 2, "05.png": -1})
    which = ("s3://cluster/in/", "-o", "s3://cluster/out/", "--recursive", "--report", tmp_path / "run.jsonl")
    ran = restore(*which, "--ray", "--workers", "2")
    rows = told(tmp_path / "run.jsonl")
    assert ran.status == 1 and len(rows) == 8 and said["02.png"] == 2
    assert [name for name, row in rows.items() if row["status"] != "restored"] == ["05.png"]
    assert "s3://cluster/in/deep/05.png cannot be read, tried 3 times" in rows["05.png"]["error"]
    assert 3 <= said["05.png"] <= 100
    restore(photos, "-o", tmp_path / "local")
    for name in set(file_names(photos)) - {"05.png"}:
        assert bucket.cat_file(f"cluster/out/deep/{name}") == (tmp_path / "local" / name).read_bytes()

    left.clear()
    ran = restore(*which, "--skip-existing", "--ray", "--workers", "2")
    assert ran.status == 0
    last = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text("utf-8").splitlines()][-1]
    assert last["counts"] == {"skipped": 7, "restored": 1}


@pytest.fixture
def little_disk(tmp_path):
    """A disk of 300 kB; whoever runs the tests has to be allowed to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder))
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of its own cannot be mounted here")
    yield folder
    subprocess.run(("umount", str(folder)), check=True)


def test_a_full_disk_is_told_of_each_image_that_it_does_not_hold(ray, restore, photos, little_disk, tmp_path):
    ran = restore(photos, "-o", little_disk / "out", "--report", tmp_path / "run.jsonl", "--ray", "--workers", "2")
    rows = told(tmp_path / "run.jsonl")
    failed = {name for name, row in rows.items() if row["status"] == "failed"}
    assert ran.status == 1 and 0 < len(failed) < 8 and len(rows) == 8
    assert all("No space left on device" in rows[name]["error"] for name in failed)
    assert set(file_names(little_disk / "out")) == set(file_names(photos)) - failed  # nothing half-written
    restore(photos, "-o", tmp_path / "local")
    for name in file_names(little_disk / "out"):
        assert (little_disk / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_a_machine_that_leaves_loses_no_image(ray, restore, photos, tmp_path):
    """Two of Ray's nodes on this one, with one worker each."""
    from ray.cluster_utils import Cluster

    two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    gone = []

    def leave(node):
        while len(list((tmp_path / "out").glob("[0-9]*.png"))) < 2:
            time.sleep(0.01)
        gone.append(len(list((tmp_path / "out").glob("[0-9]*.png"))))
        two.remove_node(node)

    try:
        threading.Thread(target=leave, args=(two.add_node(num_cpus=1),), daemon=True).start()
        how = ("--ray", two.address, "--workers", "2")
        ran = restore(photos, "-o", tmp_path / "out", "--report", tmp_path / "run.jsonl", *how)
    finally:
        ray.shutdown()
        two.shutdown()
    assert ran.status == 0 and gone and gone[0] < 8
    assert {row["status"] for row in told(tmp_path / "run.jsonl").values()} == {"restored"}
    restore(photos, "-o", tmp_path / "local")
    assert file_names(tmp_path / "out") == file_names(photos)
    assert all(
        (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes() for name in file_names(photos)
    )

"""The same against s3fs and a moto server, where both are installed (`pip install s3fs 'moto[server]'`)."""

import http.server
import io
import threading

import helpers
import numpy as np
import pytest
from PIL import Image

from gpen_core.batch import image_io as access
from gpen_core.batch import local, remote
from gpen_core.batch.job import is_done
from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.locations import Url, parse_location
from gpen_core.batch.output_names import OutputSpec
from gpen_core.batch.sources import Sources
from gpen_core.errors import InputError, OutputError
from gpen_core.options import RestoreOptions

fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")
SIDE = 96
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture(scope="module")
def photo():
    out = io.BytesIO()
    Image.fromarray(np.rint(helpers.texture(SIDE, SIDE, sigma=1.5) * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def s3_at(monkeypatch):
    def at(url):
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        retries = {"retries": {"max_attempts": 0}}  # botocore's own
        conf = {"endpoint_url": url, "key": "x", "secret": "x", "config_kwargs": retries}
        monkeypatch.setitem(fsspec.config.conf, "s3", conf)
        s3fs.S3FileSystem.clear_instance_cache()
        return fsspec.filesystem("s3")

    yield at
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3_at):
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    store = s3_at(f"http://{host}:{port}")
    store.mkdir("photos") if not store.exists("photos") else None  # moto keeps them for the process
    yield store
    server.stop()


def restore(red, argument, out, **more):
    heard = []
    with JobPlan(
        Sources((argument,), recursive=True, excluded=parse_location(out)), OutputSpec(parse_location(out))
    ) as planned:
        local.process(red, planned, RestoreOptions(), heard.append, **more)
    return [(str(one.files.target), one.status) for one in heard]


def test_a_bucket_with_what_lies_deeper_is_restored_and_gone_on_with(red, bucket, photo, tmp_path):
    names = ["a.png", "deep/a.png", "deep/er/b.png"]
    for name in (*names, "notes.txt", "deep/"):
        bucket.pipe_file(f"photos/in/{name}", photo)
    expected = [f"s3://photos/out/{name}" for name in names]
    assert restore(red, "s3://photos/in", "s3://photos/out") == [(name, "restored") for name in expected]
    (tmp_path / "a.png").write_bytes(photo)
    assert restore(red, str(tmp_path), str(tmp_path / "out")) == [(str(tmp_path / "out" / "a.png"), "restored")]
    assert bucket.cat_file("photos/out/deep/a.png") == (tmp_path / "out" / "a.png").read_bytes()
    bucket.rm_file("photos/out/deep/a.png")
    again = restore(red, "s3://photos/in/", "s3://photos/out/", is_done=is_done)
    assert [status for _, status in again] == ["skipped", "restored", "skipped"]
    assert [status for _, status in restore(red, "s3://photos/in/**/*.png", str(tmp_path / "new"))] == ["restored"] * 3
    assert (tmp_path / "new" / "deep" / "er" / "b.png").exists()


def test_only_an_images_head_is_fetched_to_know_what_it_needs(bucket, photo):
    bucket.pipe_file("photos/a.png", photo)
    assert access.decode_memory(Url("s3://photos/a.png")) > SIDE * SIDE * 3


def test_what_is_not_there_is_told(red, bucket):
    with pytest.raises(InputError, match=r"s3://photos/no\.png cannot be read: it does not exist"):
        access.read(Url("s3://photos/no.png"))
    with pytest.raises(OutputError, match=r"s3://nobucket/a\.png cannot be written"):
        access.write_bytes(Url("s3://nobucket/a.png"), b"x")
    assert not is_there("s3://photos/no.png") and not is_there("s3://nobucket/a.png")


def is_there(text):
    return access.exists(Url(text))


def test_a_store_that_goes_on_answering_503_is_given_up(s3_at, monkeypatch):
    asked = []

    class Busy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # whoever puts something waits to be told to go on
        timeout = 10

        def do_GET(self):
            asked.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(503)
            self.send_header("Content-Length", str(len(SLOW_DOWN)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(SLOW_DOWN)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        store = s3_at(f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(type(store), "retries", 1)  # its own, of each of ours
        monkeypatch.setattr(remote, "RETRY_DELAYS", (0.0, 0.0))
        with pytest.raises(InputError, match=r"cannot be read, tried 3 times: "):
            access.read(Url("s3://photos/a.png"))
        with pytest.raises(OutputError, match=r"cannot be written, tried 3 times: .*reduce your request rate"):
            access.write_bytes(Url("s3://photos/a.png"), b"x")
        assert 6 <= len(asked) <= 60
    finally:
        server.shutdown()
        server.server_close()

"""One entry in the catalog, servers that have its file, and a folder to fetch it into.

PYTEST_DONT_REWRITE: this is both a plugin, for its fixtures, and imported for its functions.
"""

import contextlib
import hashlib
import io
import json

import pytest
import torch
import weights_server as ws

from gpen_core.errors import WeightsError
from gpen_core.weights import catalog
from gpen_core.weights.catalog import Entry, Source
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.store import Store

FILE = "GPEN-TEST.pth"
ONLINE = DownloadOptions()


def checkpoint_bytes(value):
    out = io.BytesIO()
    torch.save({"weight": torch.full((300,), float(value))}, out)
    return out.getvalue()


BODY, OTHER = checkpoint_bytes(1), checkpoint_bytes(2)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def build(content, entry):
    """Takes {"weight": ...} and nothing else."""
    if not isinstance(content, dict) or list(content) != ["weight"]:
        raise WeightsError("no weight in it")
    return float(content["weight"][0])


@pytest.fixture
def serve():
    with contextlib.ExitStack() as servers:
        yield lambda *answers, body=BODY: servers.enter_context(ws.running(body, *answers))


@pytest.fixture
def publish(monkeypatch):
    """Puts one entry with these sources into the catalog."""

    def put(*sources, **changes):
        entry = Entry("gpen-test", FILE, "tests", "Test weights: for tests only.", sources, **changes)
        monkeypatch.setattr(catalog, "CATALOG", (entry,))

    return put


@pytest.fixture
def load(tmp_path):
    def run(name="gpen-test", options=ONLINE, **kwargs):
        return Store([tmp_path / "models"], options).load(name, build, **kwargs)

    return run


@pytest.fixture
def place(tmp_path):
    def put(data, name=FILE):
        (tmp_path / "models").mkdir(exist_ok=True)
        path = tmp_path / "models" / name
        path.write_bytes(data)
        return path

    return put


def modelscope(server, sha256, size=None, path="dir/weights.pth"):
    """A source with a listing, as ModelScope has it."""
    files = [{"Type": "tree", "Path": "dir"}, {"Type": "blob", "Path": "README.md", "Sha256": sha(b"x"), "Size": 1}]
    files.append({"Type": "blob", "Path": path, "Name": "weights.pth", "Sha256": sha256, "Size": size or len(server.body)})
    server.pages["/listing"] = ws.text(json.dumps({"Code": 200, "Data": {"Files": files}, "Success": True}).encode())
    return Source(server.url, server.root + "/listing", "dir/weights.pth", allows_http=True)


def hugging_face(server, sha256, size=None):
    """A source that describes its file before it redirects to where it lies."""
    headers = {"X_Linked_Etag": f'"{sha256}"', "X_Linked_Size": size or len(server.body)}
    server.head = ws.status(302, Location="https://cdn.invalid/x", **headers)
    return Source(server.url, linked_etag=True, allows_http=True)


PUBLISHERS = {"a listing": modelscope, "a header": hugging_face}

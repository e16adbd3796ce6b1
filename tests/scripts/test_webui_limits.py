"""What the API holds in memory for its clients, and bodies that it must refuse, in a fake A1111."""

import asyncio
import base64
import json
import sys
import threading

import numpy as np
import pytest
from webui_fixtures import RED

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
import image_files  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from gpen_core.images import codecs  # noqa: E402

pytest_plugins = ["webui_fixtures"]
PATIENCE = 60  # seconds until a test that hangs is given up
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(host):
    app = fastapi.FastAPI()
    host.fire("on_app_started", None, app)
    return TestClient(app)


@pytest.fixture
def body():
    return {"image": base64.b64encode(image_files.png(np.zeros((64, 64, 3), np.uint8))).decode()}


class Turn:
    """The host's queue, which is busy until the gate opens."""

    def __init__(self):
        self.gate, self.arrived = threading.Event(), threading.Semaphore(0)

    def __enter__(self):
        self.arrived.release()
        assert self.gate.wait(PATIENCE)

    def __exit__(self, *error):
        return None


def exchange(client, path, receive, **headers):
    """What the app sends to a client that is played by `receive`."""
    sent = []

    async def send(message):
        sent.append(message)

    listed = [(name.encode(), value.encode()) for name, value in {"content-type": "application/json", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": listed, "query_string": b""}
    asyncio.run(client.app(scope, receive, send))
    return sent


@pytest.mark.parametrize("path", ["restore", "jobs"])
def test_an_image_is_decoded_when_its_turn_comes(client, body, path, monkeypatch):
    turn, decoded, decode = Turn(), [], codecs.decode
    monkeypatch.setattr(sys.modules["gpen_webui.host"], "queue_lock", turn)
    monkeypatch.setattr(codecs, "decode", lambda *args, **more: (decoded.append(1), decode(*args, **more))[1])
    answers = []
    post = threading.Thread(target=lambda: answers.append(client.post(f"/gpen/v1/{path}", json=body)))
    post.start()
    assert turn.arrived.acquire(timeout=PATIENCE) and not decoded
    turn.gate.set()
    post.join(PATIENCE)
    assert answers[0].status_code in (200, 202)
    while sys.modules["gpen_webui.api"].job_queue.unfinished():
        post.join(0.001)
    assert decoded


SURROGATE = '"\\ud800"'


@pytest.mark.parametrize(
    "more",
    [
        f'"order": {SURROGATE}',
        f'"strength": {SURROGATE}',
        f'"preserve": [{SURROGATE}]',
        f"{SURROGATE}: {{{SURROGATE}: 1}}",
        f'"before_swap": {SURROGATE}',
        f'"image": [{SURROGATE}]',
        f'"boxes": [[0, 0, 1, {SURROGATE}]]',
        '"boxes": [[-9, -9, 1e17, 1e17]]',
        '"strength": "nan"',
        '"min_face_size": "1e999"',
        '"max_faces": "' + "9" * 5000 + '"',
        '"model": "' + "m" * 100_000 + '"',
        '"a": ' + "[" * 100_000 + "]" * 100_000,
        '"a": [' + "[]," * 10_000 + "0]",
        '"strength": ' + "9" * 5000,
        '"image": "é"',
        "'image': 1",
    ],
    ids=lambda more: more[:25],
)
def test_a_hostile_body_gets_a_short_answer(client, body, more):
    content = f"{json.dumps(body)[:-1]}, {more}}}"
    for path in ("restore", "jobs"):
        answer = client.post(f"/gpen/v1/{path}", content=content.encode(), headers=JSON)
        if answer.status_code == 202:  # it is refused by its result
            while (job := client.get(f"/gpen/v1/jobs/{answer.json()['id']}").json())["status"] in ("waiting", "working"):
                pass
            answer = client.get(f"/gpen/v1/jobs/{job['id']}/result")
        assert answer.status_code in (400, 422) and 0 < len(answer.json()["detail"]) < 300


def test_want_of_memory_is_said(client, body, monkeypatch):
    """Also where a decoder says it in words of its own."""

    def too_much(*_, **__):
        raise SystemError("error return without exception set")

    monkeypatch.setattr(codecs, "decode", too_much)
    answer = client.post("/gpen/v1/restore", json=body)
    assert answer.status_code == 507 and "memory" in answer.json()["detail"]
    monkeypatch.setattr(json, "loads", lambda *_: (_ for _ in ()).throw(MemoryError))
    for path in ("restore", "jobs"):
        assert client.post(f"/gpen/v1/{path}", json=body).status_code == 507


@pytest.mark.parametrize("content", [b"", b"null", b"[]", SURROGATE.encode(), b"\xff\xfe{", b'{"image": "\xff"}', b"{"])
def test_a_body_that_is_no_json_object_is_refused(client, content):
    answer = client.post("/gpen/v1/restore", content=content, headers=JSON)
    assert answer.status_code == 422 and "Expected" in answer.json()["detail"]


def test_a_body_of_another_type_is_refused(client, body):
    """Pages of other sites may send such bodies without asking."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        answer = client.post("/gpen/v1/restore", content=json.dumps(body), headers={"Content-Type": kind})
        assert answer.status_code == 422 and "application/json" in answer.json()["detail"]
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post("/gpen/v1/restore", content=json.dumps(body), headers=charset).status_code == 200


def test_a_body_that_announces_too_many_bytes_is_not_read(client):
    async def receive():
        raise AssertionError("it was read")

    sent = exchange(client, "/gpen/v1/restore", receive, **{"content-length": str(1 << 40)})
    assert sent[0]["status"] == 413


def test_a_body_without_a_length_is_read_no_further_than_the_limit(client, monkeypatch):
    monkeypatch.setattr(sys.modules["gpen_webui.api_body"], "MAX_BODY_BYTES", 1000)
    pieces = []

    async def receive():
        pieces.append(b" " * 400)
        return {"type": "http.request", "body": pieces[-1], "more_body": True}

    assert exchange(client, "/gpen/v1/restore", receive)[0]["status"] == 413 and len(pieces) == 3


def test_a_body_that_stalls_is_given_up_and_its_bytes_released(client, body, monkeypatch):
    monkeypatch.setattr(sys.modules["gpen_webui.api_body"], "STALL_TIMEOUT", 0.05)
    monkeypatch.setattr(sys.modules["gpen_webui.api"].request_budget, "limit", 100)
    messages = [{"type": "http.request", "body": b" " * 99, "more_body": True}]

    async def receive():
        if not messages:
            await asyncio.sleep(PATIENCE)
        return messages.pop()

    assert exchange(client, "/gpen/v1/jobs", receive)[0]["status"] == 408
    assert client.post("/gpen/v1/restore", json=body).status_code == 200


def test_a_client_that_reads_no_result_is_cut_off_and_others_wait(client, body, monkeypatch):
    reply, statuses = sys.modules["gpen_webui.api_reply"], []
    monkeypatch.setattr(reply, "STALL_TIMEOUT", 0.2)
    monkeypatch.setattr(reply.reply_budget, "limit", 10)

    async def read_nothing(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        else:
            statuses.append((await asyncio.to_thread(client.post, "/gpen/v1/restore", json=body)).status_code)
            await asyncio.sleep(PATIENCE)

    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive():
        if not messages:  # the client stays
            await asyncio.sleep(PATIENCE)
        return messages.pop()

    scope = {"type": "http", "method": "POST", "path": "/gpen/v1/restore", "query_string": b""}
    scope["headers"] = [(b"content-type", b"application/json")]
    with pytest.raises(TimeoutError):
        asyncio.run(client.app(scope, receive, read_nothing))
    assert statuses == [200, 429]
    assert client.post("/gpen/v1/restore", json=body).status_code == 200


def test_a_model_whose_file_name_is_not_unicode_does_not_hide_the_others(client, monkeypatch):
    engine = sys.modules["gpen_webui.engine"]
    monkeypatch.setattr(engine, "model_files", lambda: ["gpen-\udcff-256.pth", RED])
    assert [one["name"] for one in client.get("/gpen/v1/models").json()] == ["auto", "auto:256", "gpen-\\udcff-256.pth", RED]

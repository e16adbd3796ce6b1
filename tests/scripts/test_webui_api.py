"""/gpen/v1 in a fake A1111; fastapi is the host's, so these are skipped where it is not installed."""

import base64
import io

import fake_webui
import numpy as np
import pytest
from PIL import Image
from webui_pictures import RED, red

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient  # noqa: E402

pytest_plugins = ["webui_pictures"]


@pytest.fixture
def api(webui_models, monkeypatch):
    def start(**flags):
        host = fake_webui.Host(webui_models, monkeypatch, **flags)
        host.opts.gpen_model = RED
        app = fastapi.FastAPI()
        host.fire("on_app_started", None, app)
        return host, TestClient(app)

    return start


def encoded(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_restoring(api, astronaut):
    host, client = api()
    answer = client.post("/gpen/v1/restore", json={"image": "data:image/png;base64," + encoded(astronaut)})
    assert answer.status_code == 200 and answer.json()["model"] == RED
    assert red(Image.open(io.BytesIO(base64.b64decode(answer.json()["image"])))).any()
    assert answer.json()["faces"][0]["restored"] and host.lock.held == 1 and host.jobs == ["gpen", "end"]


def test_boxes_lead_and_one_without_a_face_is_named(api, astronaut):
    _, client = api()
    boxes = [[170, 60, 280, 190], [400, 400, 450, 450]]
    answer = client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "boxes": boxes, "angles": "all"}).json()
    assert [face["restored"] for face in answer["faces"]] == [True]
    assert answer["notes"] == ["no face was found in box 1 (400, 400, 450, 450)"]
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "boxes": [[1, 2, 3]]}).status_code == 400
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "angles": "some"}).status_code == 422


def test_the_picture_before_a_swap(api, astronaut):
    _, client = api()
    for original, expected in ((astronaut, False), (fake_webui.swap(astronaut), True)):
        answer = client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "original": encoded(original)})
        assert answer.json()["faces"][0]["restored"] is expected


def test_models(api):
    _, client = api()
    models = {one["name"]: one["there"] for one in client.get("/gpen/v1/models").json()}
    assert models[RED] and not models["GPEN-BFR-2048.pth"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"image": "no base64"}, 400),
        ({"image": base64.b64encode(b"no picture").decode()}, 400),
        ({"strength": 7}, 422),
        ({"order": "random"}, 422),
        ({"model": "/etc/passwd"}, 404),
        ({"model": "GPEN-BFR-512.pth"}, 503),
        ({"model": "gpen-broken.pth"}, 503),
    ],
)
def test_refusals(api, astronaut, body, status):
    _, client = api()
    given = {"image": encoded(astronaut), **body} if body else {}
    assert client.post("/gpen/v1/restore", json=given).status_code == status


def test_limits_of_size(api, astronaut, monkeypatch):
    _, client = api()
    import gpen_webui.api as routes

    monkeypatch.setattr(routes, "LARGEST_PICTURE", 512 * 512 - 1)
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut)}).status_code == 413
    monkeypatch.setattr(routes, "LARGEST_BASE64", 100)
    assert client.post("/gpen/v1/restore", json={"image": encoded(np.zeros((99, 99, 3), np.uint8))}).status_code == 413


@pytest.mark.parametrize("format_name", ["EPS", "ICO", "PPM", "PDF"])
def test_only_pictures_of_the_usual_kinds_are_opened(api, astronaut, format_name):
    """Pillow has plugins that start other programs, such as Ghostscript."""
    _, client = api()
    made = io.BytesIO()
    Image.fromarray(astronaut).save(made, format_name)
    body = {"image": base64.b64encode(made.getvalue()).decode()}
    assert client.post("/gpen/v1/restore", json=body).status_code == 400


def test_a_decompression_bomb_is_the_senders_fault(api, astronaut, monkeypatch):
    _, client = api()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused = client.post("/gpen/v1/restore", json={"image": encoded(astronaut)})
    assert refused.status_code == 413 and "pixels" in refused.json()["detail"]


def test_passwords(api):
    _, client = api(api_auth="user:secret,other:word")
    for account in (None, ("user", "word"), ("nobody", ""), ("user", "")):
        assert client.get("/gpen/v1/models", auth=account).status_code == 401
    for account in (("user", "secret"), ("other", "word")):
        assert client.get("/gpen/v1/models", auth=account).status_code == 200


def test_without_the_hosts_api_there_is_none(api):
    _, client = api(api=False)
    assert client.get("/gpen/v1/models").status_code == 404


def test_an_interruption(api, astronaut):
    host, client = api()
    host.state.interrupted = True
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut)}).status_code == 409

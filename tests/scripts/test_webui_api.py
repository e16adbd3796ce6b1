"""/gpen/v1 in a fake A1111; fastapi is the host's, so these are skipped where it is not installed."""

import asyncio
import base64
import io
import json
import struct
import sys
import threading
import zlib

import cv2
import fake_webui
import numpy as np
import pytest
from PIL import Image, ImageCms
from webui_fixtures import RED, is_red

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
import image_files  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from gpen_core.images.formats import missing_reader  # noqa: E402

pytest_plugins = ["webui_fixtures"]


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
    assert is_red(Image.open(io.BytesIO(base64.b64decode(answer.json()["image"])))).any()
    assert answer.json()["faces"][0]["restored"] and host.lock.held == 1 and host.jobs == ["gpen", "end"]


@pytest.mark.slow
def test_boxes_lead_and_one_without_a_face_is_named(api, astronaut):
    _, client = api()
    boxes = [[170, 60, 280, 190], [400, 400, 450, 450]]
    answer = client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "boxes": boxes, "angles": "all"}).json()
    assert [face["restored"] for face in answer["faces"]] == [True]
    assert answer["notes"] == ["no face was found in box 1 (400, 400, 450, 450)"]
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "boxes": [[1, 2, 3]]}).status_code == 400
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "angles": "some"}).status_code == 422


@pytest.mark.slow
def test_the_image_before_a_swap(api, astronaut):
    _, client = api()
    for before_swap, expected in ((astronaut, False), (fake_webui.swap(astronaut), True)):
        answer = client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "before_swap": encoded(before_swap)})
        assert answer.json()["faces"][0]["restored"] is expected


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("strength", "NaN"),
        ("min_face_size", "Infinity"),
        ("min_face_size", "1e999"),
        ("max_faces", "-Infinity"),
        ("max_faces", "9" * 400),
        ("boxes", "[[0, 0, NaN, 9]]"),
    ],
)
def test_numbers_that_json_does_not_have_are_refused(api, astronaut, field, number):
    _, client = api()
    body = f'{{"image": "{encoded(astronaut)}", "{field}": {number}}}'
    for path in ("restore", "jobs"):
        answer = client.post(f"/gpen/v1/{path}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422 and "finite" in answer.json()["detail"]


def huge_png(side):
    """One that says that it has side x side pixels, and does not hold them."""
    header = struct.pack(">LLBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = (
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in parts
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


@pytest.mark.parametrize(("side", "limit"), [(50_000, None), (50_000, "Pillow's"), (9000, None)])
def test_too_many_pixels_are_told_by_the_header(api, astronaut, monkeypatch, side, limit):
    _, client = api()
    if limit is None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as A1111 has it
    for body in ({"image": huge_png(side)}, {"image": encoded(astronaut), "before_swap": huge_png(side)}):
        answer = client.post("/gpen/v1/restore", json=body)
        assert answer.status_code == 413 and "pixels" in answer.json()["detail"]


@pytest.mark.parametrize("breaks", ["\n", "\r\n", " \n "])
@pytest.mark.slow
def test_base64_may_have_line_breaks(api, astronaut, breaks):
    _, client = api()
    text = encoded(astronaut)
    lines = breaks.join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n"
    assert client.post("/gpen/v1/restore", json={"image": lines}).json()["faces"][0]["restored"]


@pytest.mark.parametrize("name", ["gpen-red-256", "GPEN-RED-256", "gpen-Red-256.PTH", RED])
@pytest.mark.slow
def test_a_model_may_be_named_in_any_capitals(api, astronaut, name):
    _, client = api()
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut), "model": name}).json()["model"] == RED


def test_the_catalogs_names_are_known(api):
    _, _ = api()
    controls = sys.modules["gpen_webui.controls"]
    assert controls.find_model("gpen-bfr-2048") == controls.find_model("PYTORCH_MODEL-2048.pt") == "GPEN-BFR-2048.pth"
    assert controls.find_model("gpen-bfr-4096") is None and controls.find_model("retinaface_resnet50") is None


def test_the_reply_keeps_exif_and_profile(api, astronaut):
    _, client = api()
    image, made = Image.fromarray(astronaut), io.BytesIO()
    exif = image.getexif()
    exif[0x010F], exif[0x0112] = "a camera", 6  # make; orientation: lies on its side
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.transpose(Image.Transpose.ROTATE_90).save(made, "JPEG", quality=95, exif=exif, icc_profile=profile)
    answer = client.post("/gpen/v1/restore", json={"image": base64.b64encode(made.getvalue()).decode()})
    restored = Image.open(io.BytesIO(base64.b64decode(answer.json()["image"])))
    assert restored.getexif()[0x010F] == "a camera" and restored.info["icc_profile"] == profile
    assert restored.getexif().get(0x0112, 1) == 1 and is_red(restored).any()


def test_sixteen_bits_stay(api, astronaut):
    _, client = api()
    done, png = cv2.imencode(".png", astronaut[..., ::-1].astype(np.uint16) * 257)
    assert done
    answer = client.post("/gpen/v1/restore", json={"image": base64.b64encode(png.tobytes()).decode()}).json()
    data = np.frombuffer(base64.b64decode(answer["image"]), np.uint8)
    assert answer["faces"][0]["restored"] and cv2.imdecode(data, cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_a_client_that_goes_away_stops_the_work(api, astronaut, monkeypatch):
    """It leaves when the first progress is told; the work must end before the network has run."""
    host, client = api()
    body = json.dumps({"image": encoded(np.hstack([astronaut, astronaut]))}).encode()
    working, went = threading.Event(), threading.Event()
    jobs = sys.modules["gpen_webui.job_queue"]
    progress, stop, ended = jobs.Job.progress, jobs.Job.stop, []

    def telling(job, event):
        working.set()
        assert went.wait(60)  # until it is known that the client has gone
        ended.append(job)
        progress(job, event)

    monkeypatch.setattr(jobs.Job, "progress", telling)
    monkeypatch.setattr(jobs.Job, "stop", lambda job: (stop(job), went.set()))
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop(0)
        while not working.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/gpen/v1/restore", "headers": headers, "query_string": b""}
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 409 and [job.status for job in ended] == ["stopped"] and host.jobs == ["gpen", "end"]


def test_models(api):
    _, client = api()
    models = {one["name"]: one["downloaded"] for one in client.get("/gpen/v1/models").json()}
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


def test_an_unknown_precision_in_the_settings(api, astronaut):
    """The host's own API saves any value until it restarts."""
    host, client = api()
    host.opts.gpen_precision = "half"
    reply = client.post("/gpen/v1/restore", json={"image": encoded(astronaut)})
    assert reply.status_code == 422 and "Unknown precision 'half'. Available: auto, fp32" in reply.json()["detail"]


def test_limits_of_size(api, astronaut, monkeypatch):
    _, client = api()
    import gpen_webui.api_restore as routes

    monkeypatch.setattr(routes, "MAX_PIXELS", 512 * 512 - 1)
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut)}).status_code == 413
    monkeypatch.setattr(routes, "MAX_BASE64_LENGTH", 100)
    assert client.post("/gpen/v1/restore", json={"image": encoded(np.zeros((99, 99, 3), np.uint8))}).status_code == 413


@pytest.mark.parametrize("format_name", ["GIF", "JPEG2000", "AVIF", "HEIF"])
def test_what_can_be_read_elsewhere_can_be_sent(api, astronaut, format_name):
    if missing_reader(format_name) is not None:
        pytest.skip(f"nothing here reads {format_name}")
    _, client = api()
    photo = Image.fromarray(astronaut[20:220, 120:330])
    data = image_files.heif(photo) if format_name == "HEIF" else image_files.encode_image(photo, format_name)
    text = base64.b64encode(data).decode()
    answer = client.post("/gpen/v1/restore", json={"image": text, "before_swap": text})
    assert answer.status_code == 200, answer.text
    (face,) = answer.json()["faces"]
    assert face["change"] == 0
    assert Image.open(io.BytesIO(base64.b64decode(answer.json()["image"]))).size == photo.size


@pytest.mark.parametrize("format_name", ["EPS", "ICO", "PPM", "PDF"])
def test_only_images_of_the_usual_kinds_are_opened(api, astronaut, format_name):
    """Pillow has plugins that start other programs, such as Ghostscript."""
    _, client = api()
    made = io.BytesIO()
    Image.fromarray(astronaut).save(made, format_name)
    body = {"image": base64.b64encode(made.getvalue()).decode()}
    assert client.post("/gpen/v1/restore", json=body).status_code == 400


def test_a_decompression_bomb_is_the_senders_fault_and_pillows_own_limit_does_not_count(api, astronaut, monkeypatch):
    _, client = api()
    import gpen_webui.api_restore as routes

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert client.post("/gpen/v1/restore", json={"image": encoded(astronaut)}).status_code == 200
    monkeypatch.setattr(routes, "MAX_PIXELS", 100)
    refused = client.post("/gpen/v1/restore", json={"image": encoded(astronaut)})
    assert refused.status_code == 413 and "the limit is 100 pixels" in refused.json()["detail"]


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

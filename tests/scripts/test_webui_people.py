"""People chosen by photos in A1111 and through its API."""

import base64
import io
import sys

import fake_webui
import numpy as np
import pytest
from PIL import Image
from webui_fixtures import RED, is_red, script_arguments

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient  # noqa: E402

pytest_plugins = ["cli_fixtures", "people", "webui_fixtures"]

BLUE = np.array([0.3, 0.5, 1.6])  # gives the same face another embedding: it is the layout of its colors
URL = "/gpen/v1/restore"


@pytest.fixture
def embedder(webui_models, pin_embedder):
    path = pin_embedder(webui_models / "GPEN")
    yield path
    path.unlink()


@pytest.fixture
def client(webui_models, monkeypatch, embedder):
    host = fake_webui.Host(webui_models, monkeypatch)
    host.opts.gpen_model = RED
    app = fastapi.FastAPI()
    host.fire("on_app_started", None, app)
    return TestClient(app)


def encoded(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def photos(portrait):
    return portrait, portrait[8:], np.clip(portrait * BLUE, 0, 255).astype(np.uint8)


def test_the_api_takes_photos(client, photos):
    image, same, other = photos
    for given, field, expected in (
        (image, "reference", True),
        (other, "reference", False),
        (image, "leave_out", False),
        (other, "leave_out", True),
    ):
        answer = client.post(URL, json={"image": encoded(given), field: encoded(same)})
        assert answer.status_code == 200, answer.text
        (face,) = answer.json()["faces"]
        assert face["restored"] is expected and (face["similarity"] is not None) is (field == "reference")


def test_the_api_refuses_bad_photos(client, photos):
    image = encoded(photos[0])
    empty = client.post(URL, json={"image": image, "reference": encoded(np.zeros((80, 80, 3), np.uint8))})
    assert empty.status_code == 400
    assert empty.json()["detail"].startswith("reference is not a photo of one person: no face was found in it.")
    assert client.post(URL, json={"image": image, "reference": "no base64"}).status_code == 400
    assert client.post(URL, json={"image": image, "leave_out": base64.b64encode(b"text").decode()}).status_code == 400


@pytest.mark.parametrize("faces", ["like:/etc/passwd", "not:photo.jpg", "0,like:photo.jpg", " like:photo.jpg"])
def test_the_api_refuses_a_path_and_never_opens_it(client, photos, monkeypatch, faces):
    monkeypatch.setattr("gpen_core.images.open_file.open_regular_file", lambda *args: pytest.fail(f"opened {args}"))
    for url in (URL, "/gpen/v1/jobs"):
        answer = client.post(url, json={"image": encoded(photos[0]), "faces": faces})
        assert answer.status_code == 422 and "a path can be given only on the command line" in answer.json()["detail"]


def test_without_the_embedder_the_api_says_what_is_missing(client, photos, embedder):
    content = embedder.read_bytes()
    embedder.unlink()
    answer = client.post(URL, json={"image": encoded(photos[0]), "reference": encoded(photos[1])})
    embedder.write_bytes(content)
    assert answer.status_code == 503 and "face_recognition_sface_2021dec.onnx" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("field", "key", "same_is_restored"), [("reference", "GPEN reference", True), ("leave_out", "GPEN leave out", False)]
)
def test_the_page_takes_a_photo(host, photos, embedder, field, key, same_is_restored):
    image, same, other = photos
    for given, expected in ((image, same_is_restored), (other, not same_is_restored)):
        arguments = script_arguments(**{field: Image.fromarray(same)})
        images, parameters = host.generate([given], *arguments)[:2]
        assert is_red(images[0]).any() == expected
        assert parameters[0]["GPEN faces"] == int(expected) and parameters[0][key] is True
        assert len({"GPEN reference", "GPEN leave out", "GPEN selection"} & set(parameters[0])) == 1


def test_the_page_takes_both_photos(host, photos, embedder):
    """The photo that the face is more like decides."""
    image, same, other = map(Image.fromarray, photos)
    for left_out, expected in ((image, False), (other, True)):
        images, (parameters,) = host.generate([photos[0]], *script_arguments(reference=same, leave_out=left_out))[:2]
        assert is_red(images[0]).any() == expected
        assert parameters["GPEN reference"] is True and parameters["GPEN leave out"] is True


@pytest.mark.parametrize(
    "given", [{"reference": "/etc/passwd"}, {"leave_out": "/etc/passwd"}, {"faces": "like:/etc/passwd"}]
)
def test_a_request_to_the_page_cannot_name_a_file(host, given):
    controls = sys.modules["gpen_webui.controls"]
    with pytest.raises(Exception, match=r"expected an image|a path can be given only"):
        controls.parse_values(enable=True, **given)


def test_a_click_on_a_face_reads_no_path(host):
    preview = sys.modules["gpen_webui.preview"]
    assert preview.toggle_number("like:/etc/passwd", 2) == "2"

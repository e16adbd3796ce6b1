"""The extension in a real SD.Next on the CPU."""

import os

import a1111_host
import numpy as np
import pytest
from a1111_host import decoded, encoded
from PIL import Image
from webui_fixtures import is_red

from gpen_core.tools.demo import images as demo_pictures

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif("GPEN_SDNEXT_DIR" not in os.environ, reason="GPEN_SDNEXT_DIR names no SD.Next checkout"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory, detector_weights):
    folder = a1111_host.make_data(tmp_path_factory.mktemp("sdnext"), detector_weights)
    running = a1111_host.SDNext(folder)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def photo():
    return demo_pictures.astronaut()


def saved(host):
    return {path for path in (host.data / "outputs").rglob("*") if path.suffix in (".png", ".jpg")}


def test_it_loads(host):
    assert "gpen.py:" not in host.log.read_text("utf-8")  # as a failure's traceback has it
    components = host.call("/config")[1]["components"]
    labels = [part["props"].get("label") for part in components]
    assert labels.count("GPEN") == 2 and "GPEN Face Restore" in labels  # the operation's box and the settings' page
    assert "setting_gpen_model" in [part["props"].get("elem_id") for part in components]


def test_restoring_over_our_api(host, photo):
    status, answer = host.call("/gpen/v1/restore", {"image": encoded(photo), "model": "gpen-red-256.pth"})
    assert status == 200 and is_red(decoded(answer["image"])).sum() > 10_000


def test_the_self_test_of_the_settings_page(host):
    assert host.press("gpen_self_test").startswith("self-test: passed (")


def test_a_missing_file_is_told_in_this_hosts_words(host, photo):
    status, answer = host.call("/gpen/v1/restore", {"image": encoded(photo), "model": "GPEN-BFR-512.pth"})
    assert status == 503 and "--gpen-models-path" in str(answer) and "--models-dir" not in str(answer)


def test_the_process_page_restores_and_saves(host, photo):
    before = saved(host)
    (shown,), text = host.press_process(photo, Model="gpen-red-256.pth")
    with Image.open(shown) as image:
        assert is_red(np.asarray(image.convert("RGB"))).sum() > 10_000
    assert "GPEN model: gpen-red-256.pth" in text and "GPEN faces: 1" in text and len(saved(host) - before) == 1


def test_the_process_page_saves_nothing_that_was_not_restored(host, photo):
    before = saved(host)
    shown, text = host.press_process(photo, Model="GPEN-BFR-512.pth")
    assert shown == [] and "GPEN-BFR-512.pth" in text and saved(host) == before
    assert "GPEN restored nothing: weights are missing." in host.log.read_text("utf-8")

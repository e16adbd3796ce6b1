"""The extension in a real SD.Next on the CPU."""

import os
import re

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


def labels_of(host):
    """Labels of all tabs and controls, and texts of the buttons."""
    parts = [part["props"] for part in host.call("/config")[1]["components"]]
    return [text for part in parts for text in (part.get("label"), part.get("value")) if isinstance(text, str)]


def emphasized(text):
    return set(re.findall(r"\*([^*]+)\*", text.replace("\n", " ")))


def saved(host):
    return {path for path in (host.data / "outputs").rglob("*") if path.suffix in (".png", ".jpg")}


def test_it_loads(host):
    assert "gpen.py:" not in host.log.read_text("utf-8")  # as a failure's traceback has it
    components = host.call("/config")[1]["components"]
    labels = [part["props"].get("label") for part in components]
    assert labels.count("GPEN") == 2 and "GPEN Face Restore" in labels  # the operation's box and the settings' page
    assert "setting_gpen_model" in [part["props"].get("elem_id") for part in components]


def test_the_pages_of_the_documentation_name_what_is_there(host):
    install = (a1111_host.ROOT / "docs" / "install.md").read_text("utf-8")
    names = emphasized(install.partition("\nIn SD.Next, ")[2].partition("\n\n")[0])
    table = (a1111_host.ROOT / "docs" / "a1111.md").read_text("utf-8").partition("## In SD.Next")[2].partition("To turn")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith(("| *", "| txt"))]
    names |= emphasized(" ".join(row[3] for row in rows))
    assert {"Manual install", "Process Folder"} <= names and names <= set(labels_of(host)), names - set(labels_of(host))


def test_the_page_control_does_not_have_the_script(host):
    """As docs/a1111.md says. Once for each of the two older pages."""
    assert labels_of(host).count("GPEN Face Restore") == 2


def test_the_process_page_does_not_know_the_image_before_the_swap(host, photo):
    """As docs/a1111.md says."""
    shown, text = host.press_process(photo, **{"Model": "gpen-red-256.pth", "Only swapped faces": True})
    assert shown == [] and "The image before the swap is not available" in text
    offered = [part["props"] for part in host.call("/config")[1]["components"]]
    offered = [one["visible"] for one in offered if one.get("label") == "Only swapped faces"]
    assert sorted(offered) == [False, True, True]  # not on that page, but on the two older ones


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

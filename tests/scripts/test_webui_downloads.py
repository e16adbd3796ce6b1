"""The button that fetches what the chosen model lacks, in a fake A1111; the files come from a server on 127.0.0.1."""

import html
import re
import sys

import fake_webui
import pytest
import weights_server
from fake_webui import Component
from webui_fixtures import RED
from weights_fixtures import BODY, FILE, sha

pytest_plugins = ["webui_fixtures", "weights_fixtures"]


class Page:
    """What the panel shows below its list of models."""

    def __init__(self, host):
        host.fire("on_before_ui")
        self.parts = host.extras[-1].ui()
        made = {one.args[0]: one for one in Component.made if one.kind == "Button"}
        self.stop, self.button = made["Stop the download"], made["Download"]
        self.status = next(one for one in Component.made if one.kind == "HTML")
        self.names = [next(name for name, part in self.parts.items() if part is one) for one in self.button.inputs]

    def values(self, **chosen):
        return [chosen.get(name, self.parts[name].value) for name in self.names]

    def choose(self, **chosen):
        """Text and button once these values were chosen."""
        _, status, button = self.parts["model"].changed["fn"](*self.values(**chosen))
        assert status["visible"] == bool(plain(status["value"]))
        return status["value"], button

    def press(self, **chosen):
        """Each state of button to stop, list, text and button."""
        return self.button.clicked[0](*self.values(**chosen))


def plain(text):
    return html.unescape(re.sub("<style>.*?</style>|<[^>]*>", "", text))


@pytest.fixture
def page(host):
    return Page(host)


@pytest.fixture
def online(monkeypatch):
    for name in ("GPEN_OFFLINE", "HF_HUB_OFFLINE", "GPEN_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_shown_where_all_is_there(page):
    assert page.parts["model"].value == RED and not page.button.visible
    assert plain(page.status.value) == "" and not page.status.visible  # the page has a gap where an empty text is shown


def test_size_and_license_of_the_chosen_model_and_of_what_the_options_need(page):
    status, button = page.choose(model="GPEN-BFR-512.pth")
    assert plain(status).startswith("Not downloaded yet: GPEN-BFR-512.pth (284 MB).")
    assert "non-commercial use only" in plain(status) and button == {"value": "Download (284 MB)", "visible": True}
    status, button = page.choose(model="GPEN-BFR-512.pth", mask_type="parse", detector="retinaface_resnet50")
    assert "detection_Resnet50_Final.pth (109 MB), parsing_parsenet.pth (85 MB)" in plain(status)
    assert button["value"] == "Download (479 MB)" and "facexlib weights: MIT." in plain(status)
    assert page.choose()[1] == {"value": "Download", "visible": False}
    assert page.choose(mask_type="no such mask")[1]["visible"] is False  # a run says what is wrong with it


def test_auto_shows_what_it_would_fetch_and_what_is_faster(page):
    status, button = page.choose(model="auto")
    assert "GPEN-BFR-2048.pth (285 MB)" in plain(status) and "GPEN-BFR-512 is faster" in plain(status)
    assert button["value"] == "Download (285 MB)"


def states_beside(style):
    """State by choice, as the style sheet writes it."""
    return {
        unescaped(name): unescaped(state) for name, state in re.findall(r'label="(.*?)"\]::after{content:"(.*?)"', style)
    }


def test_each_choice_has_its_state_beside_it(host, webui_models, monkeypatch):
    monkeypatch.setattr("gpen_core.weights.folders.has_runtime", lambda: False)
    onnx = webui_models / "GPEN" / "GPEN-BFR-1024.onnx"
    onnx.write_bytes(b"")
    try:
        states = states_beside(Page(host).status.value)
    finally:
        onnx.unlink()
    assert states[RED] == "downloaded" and states["GPEN-BFR-512.pth"] == "284 MB download"
    assert states["auto"] == "285 MB download"
    assert states["GPEN-BFR-1024.pth"] == "ONNX file; needs ONNX Runtime"
    assert (states["retinaface_mobile0.25"], states["retinaface_resnet50"]) == ("downloaded", "109 MB download")


def test_the_lists_of_the_settings_page_have_the_states_too(page):
    style = page.status.value
    assert all(f"#setting_gpen_{name}" in style and f"[id^=gpen_{name}_]" in style for name in ("model", "detector"))


def test_no_file_name_leaves_the_style_sheet(page):
    name = 'gpen "}</style><b>é.pth'
    style = sys.modules["gpen_webui.models_list"].choices_style([name])
    assert style.count("</style>") == 1 and "<b>" not in style and list(states_beside(style)) == [name]


def unescaped(text):
    return re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), text)


@pytest.mark.parametrize("pin", [True, False])
def test_it_fetches_with_progress_and_says_how_the_file_was_checked(page, publish, serve, online, webui_models, pin):
    server = serve(weights_server.slowly(len(BODY) // 4, 0.4))
    publish(server.source, **({"sha256": sha(BODY), "bytes": len(BODY)} if pin else {}))
    path = webui_models / "GPEN" / FILE
    try:
        *working, (stop, model, status, button) = page.press(model=FILE)
        assert path.read_bytes() == BODY
    finally:
        for one in webui_models.glob(f"GPEN/*{FILE}*"):
            one.unlink()
    assert any("MB, GPEN-TEST.pth: Downloading from 127.0.0.1" in plain(one[2]["value"]) for one in working)
    assert all(one[2]["visible"] for one in working)
    assert {one[0]["visible"] for one in working} == {True} and {one[3]["visible"] for one in working} == {False}
    assert ("the publisher's SHA-256" if pin else "only its structure was checked") in plain(status["value"])
    assert status["visible"] and "Not downloaded" not in plain(status["value"])
    assert (stop, button["visible"]) == ({"visible": False}, False) and "choices" in model
    assert "All needed files are already downloaded" in plain(next(page.press())[2]["value"])
    assert plain(page.choose()[0]) == ""  # the message belongs to the model of before


def test_it_can_be_stopped(page, publish, serve, online, webui_models):
    publish(serve(weights_server.drip_body).source, sha256=sha(BODY), bytes=len(BODY))
    states = page.press(model=FILE)
    next(states)
    page.stop.clicked[0]()
    *_, (stop, _, status, button) = states
    assert plain(status["value"]).startswith("Stopped.") and not stop["visible"] and button["visible"]
    assert not (webui_models / "GPEN" / FILE).exists()


def test_a_failure_is_one_sentence_and_its_details_stay(host, page, publish, serve, online):
    publish(serve(weights_server.status(404)).source, sha256=sha(BODY), bytes=len(BODY))
    *_, (_, _, status, button) = page.press(model=FILE)
    assert host.toasts == ["GPEN: the download failed. The reason is below the list of models."]
    said = status["value"]
    assert "<span>The download failed.</span>" in said and "answered 404" in plain(said) and button["visible"]


def test_a_page_without_a_queue_hears_the_end(webui_models, monkeypatch, publish, serve, online):
    host = fake_webui.Host(webui_models, monkeypatch, no_gradio_queue=True)
    host.opts.gpen_model = RED
    publish(serve(weights_server.status(404)).source, sha256=sha(BODY), bytes=len(BODY))
    assert "answered 404" in plain(Page(host).press(model=FILE)[2]["value"])


def test_sizes_and_states_are_in_the_language_of_the_host(host):
    host.opts.localization = "zh_CN"
    page = Page(host)
    assert page.choose(model="GPEN-BFR-512.pth")[1]["value"] == "下载 (284 MB)"
    assert "已下载" in unescaped(page.status.value)
    host.opts.localization = "../zh_CN"
    assert page.choose(model="GPEN-BFR-512.pth")[1]["value"] == "Download (284 MB)"
    assert "gpen_webui.localization" in sys.modules

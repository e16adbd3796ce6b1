"""The page's Chinese (localizations/zh_CN.json), which the host merges into the user's own of that name."""

import html
import json
import re
import sys
from itertools import product
from pathlib import Path

import fake_webui
import pytest
from fake_webui import Component

from gpen_core.pipeline.gpen_runner import SizeSelector
from gpen_core.weights.catalog import CATALOG

pytest_plugins = ["webui_fixtures"]

ROOT = Path(__file__).resolve().parents[2]
CHINESE = json.loads((ROOT / "localizations" / "zh_CN.json").read_text(encoding="utf-8"))
# Words that the hosts' pages have themselves, and so their localization: ours would be laid over it.
HOSTS_OWN = {"Model", "GPEN"}


def texts_of(part):
    """What stands on it and does not change."""
    if part.kind == "HTML":
        return {html.unescape(text) for text in re.findall(r"<(?:span|small|b)>([^<]*?)</", str(part.value))}
    title = part.args[0] if part.args and part.kind in ("Accordion", "Button") else part.label
    return {title, part.kwargs.get("placeholder"), getattr(part, "webui_tooltip", None)} - {None, ""}


SENTENCES = ("downloads", "extras", "models_list", "preview", "self_test")
"""Our modules whose constants are what callbacks say: each sentence is an element of its own in the page."""
ALONE = {"downloaded", "download", "Download", "Not downloaded yet", "Faces found", "to restore", "restored", "skipped"}
ALONE.add("ONNX file; needs ONNX Runtime")


def said_by_callbacks():
    """Sentences that no component is made with."""
    for name in SENTENCES:
        constants = vars(sys.modules[f"gpen_webui.{name}"]).items()
        yield from (text for key, text in constants if key.isupper() and isinstance(text, str) and text.endswith("."))
    reasons = ["", *(f": {words}" for _, words in sys.modules["gpen_webui.host"].SHORT_REASONS)]
    yield from (f"GPEN restored nothing{place}{reason}." for place, reason in product(("", " in ReActor"), reasons))
    yield from (entry.license for entry in CATALOG)
    sizes = (256, 512, 1024, 2048)
    for present, side in product([(), *((size,) for size in sizes)], sizes):
        networks = SizeSelector(sizes, None, print, present)
        yield networks.advise(side, networks.sizes[-1])


@pytest.fixture
def texts(webui_models, monkeypatch):
    """Of both pages and the settings, in A1111 and SD.Next. One network is an ONNX file, without ONNX Runtime."""
    monkeypatch.setattr("gpen_core.weights.folders.has_runtime", lambda: False)
    onnx = webui_models / "facerestore_models" / "GPEN-BFR-1024.onnx"
    onnx.touch()
    found = set(ALONE)
    for is_sdnext in (False, True):
        host = fake_webui.Host(webui_models, monkeypatch, sdnext=is_sdnext, operation_order=["GPEN"])
        Component.made = ()
        host.fire("on_before_ui")
        host.fire("on_after_component", object(), elem_id="extras_image")
        host.extras[-1].ui()
        host.script_classes[0]().ui(False)
        host.fire("on_ui_settings")
        found = found.union(*map(texts_of, Component.made))
        found |= {info.label for info in host.opts.added.values()}
        told = " ".join(info.told for info in host.opts.added.values())
        found |= {html.unescape(text) for text in re.findall(r"<span class='info'>(.*?)</span>", told)}
        found |= {host.setting("gpen_self_test").value}
    onnx.unlink()
    return (found | set(said_by_callbacks())) - {None}


def test_all_that_stands_on_our_pages_is_there_in_chinese(texts):
    assert {"Accept this model's changed file", "Grain", "Before and after"} <= texts
    assert texts - HOSTS_OWN - set(CHINESE) == set()


def test_nothing_is_there_that_stands_nowhere_and_nothing_of_the_hosts(texts):
    assert set(CHINESE) - texts == set()
    assert not HOSTS_OWN & set(CHINESE)


def test_what_is_to_be_typed_stays_as_it_is():
    for english, chinese in CHINESE.items():
        for word in ("auto", "match", "ParseNet", "ReActor", "models/GPEN", "0,2-4", "eyes,mouth", "earrings"):
            assert word in chinese or not re.search(rf"\b{re.escape(word)}\b", english), (english, word)

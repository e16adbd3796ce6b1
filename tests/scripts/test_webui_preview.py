"""The Extras page: the preview's buttons, and where GPEN stands among the operations; in a fake A1111."""

import sys
import types

import fake_webui
import numpy as np
import pytest
from fake_webui import Component
from PIL import Image
from webui_fixtures import RED, is_red

pytest_plugins = ["webui_fixtures"]


def buttons(host):
    """What a click on each does, by the button's text: image, then the controls' values, by name."""
    source = Component()
    host.fire("on_before_ui")
    host.fire("on_after_component", Component(), elem_id="another")
    host.fire("on_after_component", source, elem_id="extras_image")
    parts = host.extras[-1].ui()
    made = {one.args[0]: one for one in Component.made if one.kind == "Button"}

    def click(text, image, **chosen):
        given = zip(made[text].inputs, ("source", *(name for name in parts if name != "enable")))
        shown, _ = made[text].clicked
        return shown(*(image if one is source else chosen.get(name) for one, name in given))

    return click


def test_faces_are_shown_with_their_numbers(host, astronaut):
    photo = Image.fromarray(np.hstack([astronaut, astronaut])).convert("RGBA")
    click = buttons(host)
    before, shown, said = click("Show faces and their numbers", photo, faces="1")
    drawn = shown["value"]
    assert before is photo and shown["label"] == "Faces" and drawn.size == photo.size and "2 faces" in said and "0: " in said
    changed = (np.asarray(drawn) != np.asarray(photo.convert("RGB"))).any(2)
    assert changed[:, :512].any() and changed[:, 512:].any() and not is_red(drawn).any()
    blue = (np.asarray(drawn) == (0, 114, 178)).all(2)
    assert blue[:, 512:].any() and not blue[:, :512].any()  # only the second would be restored
    assert host.jobs == ["gpen", "end"] and host.lock.held == 1


@pytest.mark.parametrize("sdnext", [False, True])
@pytest.mark.slow
def test_before_and_after(webui_models, monkeypatch, astronaut, sdnext):
    host = fake_webui.Host(webui_models, monkeypatch, sdnext=sdnext)
    host.opts.gpen_model = RED
    photo = Image.fromarray(astronaut)
    before, after, said = buttons(host)("Before and after", photo)
    assert (
        before is photo and is_red(after["value"]).any() and after["label"] == "After" and "1 face found, 1 restored" in said
    )


def test_without_an_image_or_with_a_wrong_value_it_says_so(host, astronaut):
    click = buttons(host)
    assert click("Before and after", None)[2].startswith("Choose an image")
    _, after, said = click("Show faces and their numbers", Image.fromarray(astronaut), order="<random>")
    assert after is None and "order is" in said and "<random>" not in said


def test_there_is_none_where_the_host_has_no_image(host):
    host.extras[-1].ui()
    assert not [one for one in Component.made if one.kind == "Button" and "Accept" not in str(one.args)]
    buttons(host)
    host.fire("on_before_ui")  # "Reload UI" begins a new page
    before = len(Component.made)
    host.extras[-1].ui()
    assert not [one for one in Component.made[before:] if one.kind == "Button" and "Accept" not in str(one.args)]


@pytest.mark.parametrize(("others", "expected"), [([1000, 3000, 4040], 3100), ([3000, 20000], 20100), (None, 20100)])
def test_it_stands_beside_codeformer_unless_a_swap_may_come_later(host, monkeypatch, others, expected):
    operation = type(host.extras[-1])
    if others is not None:
        data = [types.SimpleNamespace(script_class=types.SimpleNamespace(order=order)) for order in others]
        host.scripts.postprocessing_scripts_data = [*data, types.SimpleNamespace(script_class=operation)]
    assert operation().order == expected and "gpen_webui.preview" in sys.modules

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
        updates = shown(*(image if one is source else chosen.get(name) for one, name in given))
        assert all(one["visible"] == bool(one["value"]) for one in updates[:2])
        return [one["value"] if isinstance(one, dict) else one for one in updates]

    return click


def test_faces_are_shown_with_their_numbers(host, astronaut):
    photo = Image.fromarray(np.hstack([astronaut, astronaut])).convert("RGBA")
    click = buttons(host)
    drawn, crops, numbers, said = click("Show faces and their numbers", photo, faces="1")
    assert drawn.size == photo.size and "<span>Faces found</span>: 2, <span>to restore</span>: 1" in said and "0: " in said
    changed = (np.asarray(drawn) != np.asarray(photo.convert("RGB"))).any(2)
    assert changed[:, :512].any() and changed[:, 512:].any() and not is_red(drawn).any()
    blue = (np.asarray(drawn) == (0, 114, 178)).all(2)
    assert blue[:, 512:].any() and not blue[:, :512].any()  # only the second would be restored
    assert host.jobs == ["gpen", "end"] and host.lock.held == 1
    assert numbers == [0, 1] and [text for _, text in crops] == ["0", "1"]
    assert all(min(crop.size) >= 256 for crop, _ in crops)


def test_faces_are_numbered_in_the_chosen_order(host, astronaut):
    """The left face is the smaller one and lies lower."""
    canvas = np.zeros((900, 900, 3), np.uint8)
    canvas[600:856, :256] = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    canvas[:512, 388:] = astronaut
    brightness = {}
    for order in ("left-right", "reading", "large-small"):
        _, crops, numbers, _ = buttons(host)("Show faces and their numbers", Image.fromarray(canvas), order=order)
        brightness[order] = [np.asarray(crop.convert("RGB")).astype(int).mean() for crop, _ in crops]
        assert numbers == [0, 1] and [text for _, text in crops] == ["0", "1"]
    assert brightness["reading"] == brightness["large-small"] == brightness["left-right"][::-1] != brightness["left-right"]


@pytest.mark.parametrize("sdnext", [False, True])
@pytest.mark.slow
def test_before_and_after(webui_models, monkeypatch, astronaut, sdnext):
    host = fake_webui.Host(webui_models, monkeypatch, sdnext=sdnext)
    host.opts.gpen_model = RED
    two = Image.fromarray(np.hstack([astronaut, astronaut]))
    after, ((pair, caption),), numbers, said = buttons(host)("Before and after", two, faces="1")
    assert (
        is_red(after).any()
        and "<span>restored</span>: 1, <span>skipped</span>: 1" in said
        and (caption, numbers) == ("1", [1])
    )
    half = pair.width // 2
    assert not is_red(pair)[:, :half].any() and is_red(pair)[:, half:].any() and pair.height >= 256


@pytest.mark.parametrize(
    ("faces", "number", "expected"),
    [("all", 2, "2"), ("2", 0, "0,2"), ("0,2-4", 3, "0,2,4"), ("2", 2, "all"), ("nonsense", 1, "1"), ("largest", 0, "0")],
)
def test_a_click_on_a_crop_chooses_the_face(host, faces, number, expected):
    buttons(host)
    gallery = next(one for one in Component.made if one.kind == "Gallery")
    event = gallery.selected
    clicked = types.SimpleNamespace(index=1)
    assert event["fn"]([9, number], faces, clicked) == {"value": expected}
    assert [one.label for one in event["outputs"]] == ["Faces"]


def test_without_an_image_or_with_a_wrong_value_it_says_so(host, astronaut):
    click = buttons(host)
    assert "<span>Choose an image" in click("Before and after", None)[-1]
    _, crops, _, said = click("Show faces and their numbers", Image.fromarray(astronaut), order="<random>")
    assert crops == [] and "order is" in said and "<random>" not in said


def test_empty_previews_take_no_room(host):
    buttons(host)
    previews = [one for one in Component.made if one.label in ("Preview", "Faces") and one.kind in ("Image", "Gallery")]
    assert [one.visible for one in previews] == [False, False]


def test_there_is_none_where_the_host_has_no_image(host):
    host.extras[-1].ui()
    assert not [one for one in Component.made if one.kind == "Gallery"]
    buttons(host)
    host.fire("on_before_ui")  # "Reload UI" begins a new page
    before = len(Component.made)
    host.extras[-1].ui()
    assert not [one for one in Component.made[before:] if one.kind == "Gallery"]


@pytest.mark.parametrize(("others", "expected"), [([1000, 3000, 4040], 3100), ([3000, 20000], 20100), (None, 20100)])
def test_it_stands_beside_codeformer_unless_a_swap_may_come_later(host, monkeypatch, others, expected):
    operation = type(host.extras[-1])
    if others is not None:
        data = [types.SimpleNamespace(script_class=types.SimpleNamespace(order=order)) for order in others]
        host.scripts.postprocessing_scripts_data = [*data, types.SimpleNamespace(script_class=operation)]
    assert operation().order == expected and "gpen_webui.preview" in sys.modules

"""What images say of GPEN, how that comes back into the controls, and the controls themselves, in a fake A1111."""

import json
import sys
import types

import numpy as np
import pytest
from fake_webui import Component
from PIL import Image
from webui_fixtures import RED, script_arguments

from gpen_core import DETECTORS

pytest_plugins = ["webui_fixtures"]
MOBILE, PLAIN = "retinaface_mobile0.25", {"GPEN model": RED, "GPEN faces": 1}


def parts(host):
    """The script's controls by name, and how each is pasted."""
    script = host.script_classes[0]()
    made = script.ui(False)
    names = ("enable", *sys.modules["gpen_webui.controls"].CONTROL_NAMES, "save_before")
    readers = {names[made.index(component)]: reader for component, reader in script.infotext_fields}
    return dict(zip(names, made)), readers


def quoted(parameters):
    """As the host writes an image's parameters and reads them again: all is text, and quoted where it has commas."""
    written = {key: json.dumps(str(value)) if "," in str(value) else str(value) for key, value in parameters.items()}
    return {key: json.loads(value) if value.startswith('"') else value for key, value in written.items()}


def pasted(host, parameters):
    """What each control gets; None: nothing. The host turns text into the kind of the control's value."""
    components, readers = parts(host)
    out = {}
    for name, reader in readers.items():
        value = reader(parameters) if callable(reader) else parameters.get(reader)
        out[name] = None if value is None else type(components[name].value)(value)
    return out


CHOSEN = {
    "strength": 0.5,
    "faces": "0,2-4",
    "order": "reading",
    "min_face_size": 24,
    "mask_type": "feather",
    "color": "match",
    "confidence": 0.8,
    "max_faces": 3,
    "detection_size": 1000,
    "detector": MOBILE,
}
SAID = {
    **PLAIN,
    "GPEN strength": 0.5,
    "GPEN selection": "0,2-4",
    "GPEN order": "reading",
    "GPEN min face size": 24,
    "GPEN mask type": "feather",
    "GPEN color": "match",
    "GPEN confidence": 0.8,
    "GPEN max faces": 3,
    "GPEN detection size": 1000,
    "GPEN detector": MOBILE,
}


def test_what_differs_from_the_default_is_written_and_pasted(host, astronaut):
    _, (info,), _ = host.generate([astronaut], *script_arguments(**CHOSEN))
    assert info == SAID
    host.opts.gpen_detector = DETECTORS[0]  # another setting where it is pasted
    back = pasted(host, quoted(info))
    assert {name: back[name] for name in CHOSEN} == CHOSEN and back["model"] == RED
    assert back["enable"] is True


def test_extras_says_the_same(host, astronaut):
    given = {"enable": True, "model": RED, **CHOSEN}
    assert host.run_extras(Image.fromarray(astronaut), GPEN=given).info == SAID


def test_what_is_default_is_not_written_and_comes_back_as_default(host, astronaut):
    host.opts.gpen_detector = MOBILE
    _, (info,), _ = host.generate([astronaut], *script_arguments())
    assert info == {**PLAIN, "GPEN detector": MOBILE}  # the setting is not the default
    host.opts.gpen_mask_type = "parse"
    back = pasted(host, quoted(PLAIN))
    assert (back["faces"], back["order"], back["strength"]) == ("all", "left-right", 1)
    assert (back["mask_type"], back["color"], back["min_face_size"], back["max_faces"]) == ("auto", "auto", 0, 0)
    assert (back["preserve"], back["mask_expand"], back["grain"]) == ([], 0, 0)
    assert back["only_swapped"] is False and back["confidence"] == 0.9
    assert back["detector"] == DETECTORS[0]  # what the image was made with, not what is set now


def test_a_detector_that_is_set_or_gone_is_left_to_the_settings(host):
    as_set = sys.modules["gpen_webui.controls"].USE_SETTING
    for named in (MOBILE, "no-longer-there.pth"):
        assert pasted(host, {**PLAIN, "GPEN detector": named})["detector"] == as_set


def test_what_stays_and_the_masks_edge_come_back(host, astronaut):
    _, (info,), _ = host.generate([astronaut], *script_arguments(mask_expand=-0.1, grain=0.25))
    assert (info["GPEN mask expand"], info["GPEN grain"]) == (-0.1, 0.25)
    back = pasted(host, quoted(info))
    assert (back["mask_expand"], back["grain"]) == (-0.1, 0.25)
    back = pasted(host, {**PLAIN, "GPEN preserve": "eyes,mouth"})
    assert back["preserve"] == ["eyes", "mouth"]


def test_an_image_without_gpen_changes_only_the_tick(host):
    back = pasted(host, {"Steps": "20", "Face restoration": "GPEN"})
    assert back.pop("enable") is False and set(back.values()) == {None}


@pytest.mark.parametrize(
    ("key", "text", "name"),
    [
        ("strength", "much", "strength"),
        ("strength", "nan", "strength"),
        ("max faces", "inf", "max_faces"),
        ("color", "blue", "color"),
        ("selection", "some", "faces"),
        ("preserve", "eyes,ankles", "preserve"),
    ],
)
def test_a_value_that_cannot_be_leaves_the_control_as_it_is(host, key, text, name):
    back = pasted(host, {**PLAIN, f"GPEN {key}": text})
    assert back[name] is None and back["enable"] and back["grain"] == 0


def test_keys_of_the_image_before_do_not_stay(host, astronaut):
    _, _, p = host.generate([astronaut], *script_arguments(**CHOSEN))
    script = host.script_classes[0]()
    script.postprocess_image_after_composite(p, types.SimpleNamespace(image=Image.fromarray(astronaut)), *script_arguments())
    assert {key for key in p.extra_generation_params if key.startswith("GPEN")} == {*PLAIN, "GPEN detector"}
    script.postprocess_image_after_composite(p, types.SimpleNamespace(image=None), *script_arguments(order="random"))
    assert p.extra_generation_params == {"GPEN model": RED, "GPEN faces": 0, "GPEN failed": "a value is invalid"}


def test_the_options_of_a_failed_image_come_back(host, astronaut):
    _, (restored,), _ = host.generate([astronaut], *script_arguments(**CHOSEN))
    host.state.interrupted = True
    _, (info,), _ = host.generate([astronaut], *script_arguments(**CHOSEN))
    assert info["GPEN failed"] == "interrupted" and info["GPEN faces"] == 0
    assert pasted(host, quoted(info)) == pasted(host, quoted(restored))


def test_the_first_row_is_short_and_more_is_folded(host):
    made = host.extras[-1].ui()
    labels = [one.label for one in Component.made if one.label]
    assert labels[:4] == ["GPEN", "Model", "Strength", "Faces"]
    kinds = [one.kind for one in Component.made]
    accordion = next(n for n, one in enumerate(Component.made) if one.args[:1] == ("More",))
    assert accordion == kinds.index("Accordion")  # the only one but the operation's own
    inputs = [one for one in Component.made[:accordion] if one.kind in ("Dropdown", "Slider", "Textbox", "Checkbox")]
    assert len(inputs) == 3 and Component.made.index(inputs[-1]) < accordion
    assert made["faces"].kwargs["allow_custom_value"] and made["faces"].choices == ["all", "largest", "center"]
    tipped = [part for one in (made, host.extras[-1].ui()) for name, part in one.items() if name != "enable"]
    assert all(part.webui_tooltip for part in tipped)
    assert len({part.elem_id for part in tipped}) == len(tipped)  # the host finds them by their ids
    assert [one.kwargs.get("open") for one in Component.made if one.args[:1] == ("More",)] == [False] * 2


@pytest.mark.parametrize(("confidence", "found"), [(None, 1), (0.9, 1), (1.0, 0)])
@pytest.mark.slow
def test_confidence_and_most_faces_count(host, astronaut, confidence, found):
    two = np.hstack([astronaut, astronaut])
    assert host.generate([two], *script_arguments(confidence=confidence, max_faces=1.0))[1][0]["GPEN faces"] == found


def test_a_detector_that_is_not_listed_is_refused(host, astronaut):
    _, _, p = host.generate([astronaut], *script_arguments(detector="../../etc/passwd"))
    assert "Unknown detector" in p.comments[0] and "as in the settings" in p.comments[0]

import dataclasses
import json
import math

import numpy as np
import pytest
from PIL import Image

from gpen_core import FaceReference, GpenError, with_references
from gpen_core.errors import OptionsError
from gpen_core.options import (
    RestoreOptions,
    VideoOptions,
    changed_options,
    declared_options,
    required_weights,
    supported_on_device,
)


def test_defaults_are_those_of_the_published_pipeline():
    assert dataclasses.asdict(RestoreOptions()) == {
        "strength": 1.0,
        "fidelity": 0.0,
        "faces": "all",
        "order": "reading",
        "min_face_size": 0,
        "max_face_size": 0,
        "max_faces": None,
        "confidence": 0.9,
        "detection_size": 2000,
        "template": "gpen",
        "mask_type": "auto",
        "color": "auto",
        "angles": "auto",
        "grain": 0.0,
        "preserve": (),
        "mask_expand": 0.0,
        "min_identity": 0.0,
        "upscale": 1.0,
        "upscaler": "lanczos",
    }


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RestoreOptions().strength = 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("strength", value) for value in (-0.01, 1.01, math.nan, math.inf, "1", None)),
        *(("fidelity", value) for value in (-0.01, 1.01, math.nan, "high", None)),
        *(("confidence", value) for value in (-0.1, 1.1, math.nan, "high")),
        *(("max_face_size", value) for value in (-1, 12.5, 8193, None)),
        *(("min_face_size", value) for value in (-1, 12.5, 8193, math.nan, math.inf, None)),
        *(("max_faces", value) for value in (-1, 1.5, 1001, "2", math.inf)),
        *(("detection_size", value) for value in (0, 63, 8193, -2000, 1000.5, math.nan, math.inf, None)),
        *(("order", value) for value in ("random", "", "Reading", None)),
        *(("template", value) for value in ("arcface", None)),
        *(("mask_type", value) for value in ("none", True)),
        *(("color", value) for value in ("yes", None)),
        *(("faces", value) for value in ("", "big", "0,", "0;2", "-1", "0,-1", "1.5", (), (-1,), (0.5,), True, None, ["x"])),
        *(("faces", value) for value in ("3-1", "1-", "-", "0-2-4", "0-99999999", "a-b")),
        *(("angles", value) for value in ("none", 90, None)),
        *(("grain", value) for value in (-0.1, 1.1, math.nan, "some", None)),
        *(("mask_expand", value) for value in (-0.6, 0.6, math.nan, "wide", None)),
        *(("min_identity", value) for value in (-0.1, 1.1, math.nan, "some", None)),
        *(("upscale", value) for value in (0, 0.9, 8.1, -2, math.nan, math.inf, "2", None)),
        *(("upscaler", value) for value in ("", 2, None)),
        *(("preserve", value) for value in ("nostril", "eyes;mouth", ("eyes", 3), 3, None, [["eyes"]])),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_named(name, value):
    with pytest.raises(OptionsError) as refused:
        RestoreOptions(**{name: value})
    assert isinstance(refused.value, GpenError)
    assert name in str(refused.value)
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("strength", value) for value in (0, 1, 0.5)),
        *(("confidence", value) for value in (0, 1)),
        *(("min_face_size", value) for value in (0, 80, 8192)),
        *(("max_faces", value) for value in (None, 1, 1000)),
        *(("detection_size", value) for value in (64, 8192)),
        *(("order", value) for value in ("reading", "left-right", "large-small")),
        *(("template", value) for value in ("gpen", "ffhq")),
        *(("mask_type", value) for value in ("auto", "feather", "parse")),
        *(("color", value) for value in ("auto", "none", "match")),
        *(("faces", value) for value in ("all", "largest", "center")),
        *(("angles", value) for value in ("auto", "upright", "all")),
        *(("grain", value) for value in (0, 0.3, 1)),
        *(("mask_expand", value) for value in (-0.5, 0, 0.1)),
        *(("min_identity", value) for value in (0, 0.363, 1)),
        *(("upscale", value) for value in (1, 1.5, 8)),
        *(("upscaler", value) for value in ("lanczos", "realesrnet_x2", "mine.pth")),
    ],
)
def test_every_value_that_is_promised_is_kept(name, value):
    assert getattr(RestoreOptions(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ("0,2", (0, 2)),
        (" 3 , 1 ", (3, 1)),
        ("7", (7,)),
        ([0, 2], (0, 2)),
        (("0", 1), (0, 1)),
        ("0,2-4", (0, 2, 3, 4)),
        ("5 - 6", (5, 6)),
        ("2-2", (2,)),
    ],
)
def test_faces_may_be_numbers_or_text(given, numbers):
    assert RestoreOptions(faces=given).faces == numbers


@pytest.mark.parametrize(
    ("given", "regions"),
    [
        ("", ()),
        ((), ()),
        ("mouth, eyes", ("eyes", "mouth")),
        (["hair", "hair", "occluders"], ("hair", "occluders")),
    ],
)
def test_regions_may_be_words_or_text(given, regions):
    assert RestoreOptions(preserve=given).preserve == regions


def test_options_of_one_meaning_are_equal():
    assert RestoreOptions(faces="0,2") == RestoreOptions(faces=[0, 2])
    assert hash(RestoreOptions(faces=[0, 2])) == hash(RestoreOptions(faces=(0, 2)))


def test_numpys_numbers_are_numbers():
    options = RestoreOptions(
        strength=np.float32(0.5), detection_size=np.int64(640), max_faces=np.uint8(3), min_face_size=np.int16(4)
    )
    assert json.loads(json.dumps(vars(options)))["strength"] == 0.5
    assert (options.detection_size, options.max_faces, options.min_face_size) == (640, 3, 4.0)
    with pytest.raises(OptionsError):
        RestoreOptions(strength=np.float32("nan"))


NUMBERS = {"int": (np.int64(80), int), "float": (np.float32(1), float)}  # by annotation: a value and what is kept
FLOATS = {"mask_expand": np.float32(0.5)}


@pytest.mark.parametrize("options", [RestoreOptions, VideoOptions])
def test_every_number_of_numpy_becomes_a_plain_one(options):
    """Else the report of a finished run cannot be written as JSON, and the resume key differs from that of `18`."""
    kinds = {field.name: str(field.type).removesuffix(" | None") for field in dataclasses.fields(options)}
    for name in (name for name, kind in kinds.items() if kind in NUMBERS):
        value, kind = NUMBERS[kinds[name]]
        made = options(**{name: FLOATS.get(name, value)})
        assert type(getattr(made, name)) is kind, name
        assert json.dumps(vars(made))


def test_a_number_beyond_a_float_is_refused():
    for options, name in ((RestoreOptions, "min_face_size"), (VideoOptions, "start")):
        with pytest.raises(OptionsError, match=name):
            options(**{name: 10**400})


EVERY_OPTION = [*declared_options(RestoreOptions), *declared_options(VideoOptions)]


@pytest.mark.parametrize("option", EVERY_OPTION, ids=lambda option: option.name)
def test_each_option_says_what_people_need(option):
    assert option.spec.label and option.spec.help.endswith(".") and option.spec.help[-2] != "."
    assert option.spec.minimum is None or option.spec.step is not None
    assert len(option.spec.help) <= 180


def test_groups_and_front_ends_select_options():
    detection = [option.name for option in declared_options(RestoreOptions, "cli", "detection")]
    assert detection == ["confidence", "detection_size", "angles"]
    assert "upscaler" not in [option.name for option in declared_options(RestoreOptions, "api")]


def test_what_can_name_a_file_is_not_offered_to_requests():
    """A request can name no path: see SECURITY.md."""
    for front_end in ("api", "comfyui", "a1111"):
        offered = declared_options(RestoreOptions, front_end)
        free_text = {option.name for option in offered if option.spec.minimum is None and not option.spec.choices}
        assert free_text == {"faces"}
        with pytest.raises(OptionsError):
            RestoreOptions(faces="/etc/passwd")


@pytest.mark.parametrize(
    ("options", "weights", "on_device"),
    [
        ({}, set(), True),
        ({"mask_type": "feather", "color": "match"}, set(), True),
        ({"mask_type": "parse"}, {"face_parser"}, True),
        ({"preserve": "eyes"}, {"face_parser"}, False),
        ({"preserve": "occluders"}, set(), False),
        ({"grain": 0.5}, set(), False),
        ({"fidelity": 0.5}, set(), False),
        ({"mask_expand": 0.1}, set(), False),
    ],
)
def test_what_options_need(options, weights, on_device):
    made = RestoreOptions(**options)
    assert required_weights(made) == weights and supported_on_device(made) is on_device
    assert {option.name for option, _ in changed_options(made)} == set(options)


def test_no_limit_of_faces_has_one_form():
    assert RestoreOptions(max_faces=0) == RestoreOptions()


def test_the_largest_size_is_not_below_the_smallest():
    assert RestoreOptions(min_face_size=50, max_face_size=50).max_face_size == 50
    with pytest.raises(OptionsError, match="max_face_size is 20 and min_face_size 40"):
        RestoreOptions(min_face_size=40, max_face_size=20)


def test_one_photo_is_a_reference(tmp_path):
    photo, array = tmp_path / "photo.png", np.zeros((4, 4, 3), np.uint8)
    for one in (str(photo), photo, b"a file", array, Image.fromarray(array)):
        assert FaceReference(one).photos == (one,)
        assert [reference.photos for reference in with_references("all", one)[1:]] == [(one,)]
    assert FaceReference([str(photo), array]).photos == FaceReference((str(photo), array)).photos == (str(photo), array)
    assert with_references("all", leave_out=iter([photo]))[1].photos == (photo,)

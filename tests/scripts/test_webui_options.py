"""Every declared option is in this host's controls, parameters, plot and API, by its declaration; in a fake A1111."""

import html
import sys
import types

import fake_webui
import numpy as np
import pytest
from PIL import Image
from webui_fixtures import RED, script_arguments

from gpen_core import OptionsError, OptionSpec, RestoreOptions, declared_options

fastapi = pytest.importorskip("fastapi")
pytest_plugins = ["webui_fixtures"]

OPTIONS = {option.name: option for option in declared_options(RestoreOptions, "a1111")}
API_OPTIONS = {option.name: option for option in declared_options(RestoreOptions, "api")}
MAY_NAME_FILES = {option.name for option in declared_options(RestoreOptions)} - set(OPTIONS)
CHOSEN = {"faces": "0,2-4", "preserve": ["eyes", "mouth"], "mask_expand": -0.1}
each_option = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)


def another_value(option):
    """One that is not this host's default, as its control gives it."""
    spec, default = option.spec, option.default_for("a1111")
    if option.name in CHOSEN:
        return CHOSEN[option.name]
    if spec.choices:
        return next(choice for choice in spec.choices if choice != default)
    return spec.maximum if default != spec.maximum else (spec.minimum + spec.maximum) / 2


def written(host, monkeypatch, *args, **more):
    """What the script writes into an image's parameters, without the work itself."""
    found = types.SimpleNamespace(image=Image.new("RGB", (8, 8)), faces=(), notes=(), is_changed=False)
    monkeypatch.setattr(sys.modules["gpen_webui.engine"], "restore", lambda *given, **named: found)
    return host.generate([np.zeros((8, 8, 3), np.uint8)], *args, **more)[1][0]


@each_option
def test_a_control_is_made_from_the_declaration(host, option):
    spec, made = option.spec, host.extras[-1].ui()[option.name]
    assert made.label.startswith(spec.label) and made.webui_tooltip == spec.help
    kind = "CheckboxGroup" if spec.multiple else "Dropdown" if spec.choices or spec.suggestions else "Slider"
    assert made.kind == kind
    if kind == "Slider":
        limits = {"minimum": spec.minimum, "maximum": spec.maximum, "step": spec.step}
        assert {name: made.kwargs[name] for name in limits} == limits
        assert made.value == (option.default_for("a1111") or 0)
    else:
        assert made.choices == list(spec.choices or spec.suggestions)


@each_option
def test_its_value_is_written_and_pasted(host, option, monkeypatch):
    script = host.script_classes[0]()
    made = dict(zip(("enable", *sys.modules["gpen_webui.controls"].CONTROL_NAMES), script.ui(False)))
    read = next(reader for component, reader in script.infotext_fields if component is made[option.name])
    value = another_value(option)
    info = written(host, monkeypatch, *script_arguments(**{option.name: value}))
    text = str(info[option.spec.infotext])
    assert read({**info, option.spec.infotext: text}) == value
    assert read({"GPEN model": RED}) == made[option.name].value and read({"Steps": 20}) is None
    assert option.spec.infotext not in written(host, monkeypatch, *script_arguments())


@each_option
def test_the_plot_has_an_axis_for_it(host, option, monkeypatch):
    plot = host.add_plot()
    host.fire("on_before_ui")
    (axis,) = [one for one in plot.axis_options if one.label == f"[GPEN] {option.spec.label}"]
    value = another_value(option)
    value = ",".join(value) if isinstance(value, list) else value
    p = types.SimpleNamespace()
    axis.apply(p, axis.kind(value), [])
    found = written(host, monkeypatch, gpen_xyz=p.gpen_xyz)[option.spec.infotext]
    assert (found if isinstance(found, str) else float(found)) == value
    offered = list(option.spec.choices or option.spec.suggestions)
    assert (axis.choices() if axis.choices else []) == offered


@each_option
def test_the_settings_give_the_default_of_what_is_not_chosen_for_each_image(host, option):
    host.fire("on_ui_settings")
    key, has_one = f"gpen_{option.name}", option.spec.group in ("look", "detection")
    assert (key in host.opts.added) == has_one
    if has_one:
        assert option.spec.help in html.unescape(host.opts.added[key].told)
        value = another_value(option)
        setattr(host.opts, key, value)
        options = sys.modules["gpen_webui.controls"].parse_values(enable=True).options
        assert options == RestoreOptions(**{"order": "left-right", option.name: value})
        assert host.extras[-1].ui()[option.name].value == value


def test_a_setting_that_changes_after_the_first_start_changes_the_page(host):
    """What the user saves as the host's own default of another control stays."""
    saved, with_setting = {}, {name for name, option in OPTIONS.items() if option.spec.group in ("look", "detection")}
    names = ("enable", *sys.modules["gpen_webui.controls"].CONTROL_NAMES)
    host.apply_ui_config(saved, host.script_classes[0]().ui(False))
    saved["Max faces/value"] = 3
    chosen = {"model": "GPEN-BFR-512.pth", **{name: another_value(OPTIONS[name]) for name in with_setting}}
    for name, value in chosen.items():
        setattr(host.opts, f"gpen_{name}", value)
    parts = dict(zip(names, host.script_classes[0]().ui(False)))
    host.apply_ui_config(saved, parts.values())
    assert {name: parts[name].value for name in chosen} == chosen and parts["max_faces"].value == 3


BAD_SETTINGS = {"preserve": 5, "strength": "much", "mask_type": ["auto"], "mask_expand": 9, "models_path": 3, "unload": "no"}
BAD_SETTINGS |= {"precision": "fp8", "detection_size": None, "wrap_reactor": None}


@pytest.mark.parametrize("sdnext", [False, True])
def test_bad_saved_settings_do_not_keep_the_page_from_being_built(webui_models, monkeypatch, caplog, sdnext):
    host = fake_webui.Host(webui_models, monkeypatch, sdnext=sdnext)
    for name, value in {**BAD_SETTINGS, "grain": 0.5}.items():
        setattr(host.opts, f"gpen_{name}", value)
    host.fire("on_before_ui")
    host.fire("on_ui_settings")
    for name, value in BAD_SETTINGS.items():
        key = f"gpen_{name}"
        assert getattr(host.opts, key) == host.opts.added[key].default and f"{key} is {value!r}" in caplog.text
    parts = host.extras[-1].ui()
    assert parts["preserve"].value == [] and parts["strength"].value == 1.0 and parts["grain"].value == 0.5
    assert len(caplog.records) == len(BAD_SETTINGS)


def schema_of(models, monkeypatch):
    host, app = fake_webui.Host(models, monkeypatch), fastapi.FastAPI()
    host.fire("on_app_started", None, app)
    body = app.openapi()["paths"]["/gpen/v1/restore"]["post"]["requestBody"]
    return body["content"]["application/json"]["schema"]


def test_the_api_has_every_option_with_range_choices_and_help(webui_models, monkeypatch):
    schema = schema_of(webui_models, monkeypatch)
    assert schema["additionalProperties"] is False
    for name, option in API_OPTIONS.items():
        field, spec = schema["properties"][name], option.spec
        default = option.default_for("api")
        assert field.get("default") == (list(default) if spec.multiple else default) and field["description"].startswith(
            spec.help
        )
        said = str(field)
        assert all(f"'{choice}'" in said for choice in spec.choices)
        assert spec.minimum is None or f"'minimum': {spec.minimum}" in said.replace(".0,", ",")
        assert spec.maximum is None or f"'maximum': {spec.maximum}" in said.replace(".0,", ",")


def test_no_request_can_name_a_file(host, webui_models, monkeypatch):
    """Images are base64, models are names of a list: nothing else is text that is free."""
    fields = schema_of(webui_models, monkeypatch)["properties"]
    assert set(fields) == {"image", "before_swap", "reference", "leave_out", "model", "boxes", *API_OPTIONS}
    assert "upscaler" in MAY_NAME_FILES and not MAY_NAME_FILES & set(fields)
    for options in (OPTIONS, API_OPTIONS):
        assert all(one.spec.choices or one.spec.minimum is not None or one.spec.convert for one in options.values())
    for name in MAY_NAME_FILES:
        _, _, p = host.generate([np.zeros((8, 8, 3), np.uint8)], {name: "/etc/passwd"})
        assert "Unknown GPEN option" in p.comments[0] and name in p.comments[0]


@pytest.mark.parametrize("faces", ["1;2", "somebody", None, True, ["left"]])
def test_a_wrong_choice_of_faces_is_not_told_to_name_a_file(host, faces):
    with pytest.raises(OptionsError, match=r"expected all, largest, center, or numbers from 0 such as 0,2 or 1-3\.$"):
        RestoreOptions.from_request({"faces": faces})


@pytest.mark.parametrize(
    ("spec", "kind", "given"),
    [
        (OptionSpec("Help.", "Some text", "look", placeholder="such as this"), "Textbox", {"placeholder": "such as this"}),
        (OptionSpec("Help.", "Seconds", "look", minimum=2, unit="s"), "Number", {"minimum": 2}),
    ],
)
def test_text_and_numbers_without_a_limit_have_controls(host, spec, kind, given):
    made, more = sys.modules["gpen_webui.option_widgets"].widget(spec)
    assert made.__name__ == kind and more == given

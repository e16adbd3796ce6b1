"""Controls that the Extras page and the main page share, generated from the declared options, and their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import gradio as gr
from PIL import Image

from gpen_core import AUTO_MODELS, Option, OptionsError, OptionSpec, RestoreOptions, match_network_name, with_references

from . import downloads, engine, host, models_list
from .option_widgets import OPTIONS, default_value, from_widget, has_setting, to_widget, widget

USE_SETTING = "as in the settings"
TOOLTIPS = {
    "model": "auto picks the smallest downloaded network that fits each face. The number is the face resolution (px).",
    "only_swapped": "Restore only faces that differ from the image before ReActor or another face swap.",
    "reference": "A photo of one person. Only faces of this person and those with a number are restored. Needs SFace "
    "(39 MB), which is downloaded on first use.",
    "leave_out": "A photo of one person. Faces of this person are skipped. Needs SFace (39 MB), which is downloaded on "
    "first use.",
    "detector": "Face detector. The list also has your own detectors from the models folder.",
}
"""Tooltips of the controls that are not declared options."""

FIRST_ROW = ("model", *(name for name, option in OPTIONS.items() if not option.spec.is_advanced))
PHOTOS = {"reference": "Reference", "leave_out": "Leave out"}
"""Labels of the images of a person to restore, and of one to leave out."""
MORE = (*(name for name, option in OPTIONS.items() if option.spec.is_advanced), "only_swapped", "detector", *PHOTOS)
CONTROL_NAMES = (*FIRST_ROW, *MORE)
COLUMNS = 3
# Widths of the first row (px). It fits into half of a page 1180 px wide, with readable file names and the slider's number
# beside its label.
MODEL_SCALE, SCALE = 3, 2
PHOTO_HEIGHT = 200  # px
MODEL_MIN_WIDTH, SLIDER_MIN_WIDTH, MIN_WIDTH = 180, 160, 90
NEED_WEIGHTS = (
    "model",
    "detector",
    *(name for name, option in OPTIONS.items() if option.spec.weights is not OptionSpec.weights and name != "faces"),
)
"""Controls that decide which weights are needed. The text of Faces cannot name a photo."""

AddMore = Callable[[dict[str, Any]], None]

_ids = count()


def default_model() -> str:
    return str(host.option("model", engine.model_choices()[0]))


def find_model(name: str) -> str | None:
    """Return the model of that name, ignoring case, or None."""
    return name.lower() if name.lower() in AUTO_MODELS else match_network_name(name, host.models_dirs())


def check_model(name: str) -> None:
    """Raise `OptionsError` if there is no model of that name."""
    if find_model(name) is None:
        raise OptionsError(f"Unknown model {name!r}. Available: {', '.join(engine.model_choices())}.")


@dataclass(frozen=True)
class ControlValues:
    """Values of the controls. The API passes None for missing values; `parse_values` then uses the defaults."""

    enable: bool
    model: str
    options: RestoreOptions
    only_swapped: bool
    detector: str


def build(*add_more: AddMore) -> dict[str, Any]:
    """Build the controls below the checkbox and return them by name, in the order of `CONTROL_NAMES`.

    Each of `add_more` is called inside the accordion with the controls and may add to them."""
    with gr.Row():
        choices, size = engine.model_choices(), {"scale": MODEL_SCALE, "min_width": MODEL_MIN_WIDTH}
        model = gr.Dropdown(label="Model", choices=choices, value=default_model(), **size)
        refresh = models_list.refresh_button(model)
        parts = {"model": model, **{name: build_option(OPTIONS[name], **_size(name)) for name in FIRST_ROW[1:]}}
    section = downloads.Section(model, refresh)
    with gr.Accordion("More", open=False):
        for names in _rows(MORE):
            with gr.Row():
                parts |= {name: _build_one(name) for name in names}
        parts = {name: parts[name] for name in CONTROL_NAMES}  # the order of a script's arguments
        for add in add_more:
            add(parts)
        models_list.accept_changed_button(model)
    section.connect({name: parts[name] for name in NEED_WEIGHTS}, _missing_files)
    for name, part in parts.items():  # hosts look up tooltips by element id, and a page may hold several of our panels
        text = OPTIONS[name].spec.help if name in OPTIONS else TOOLTIPS.get(name)
        # The host saves the value of the first start in ui-config.json, and it would hide each later change of the setting.
        part.do_not_save_to_config = name == "model" or (name in OPTIONS and has_setting(OPTIONS[name]))
        if text:
            part.webui_tooltip, part.elem_id = text, f"gpen_{name}_{next(_ids)}"
    return parts


def _rows(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Arrange names in rows of `COLUMNS`. A group of checkboxes gets its own row. The photos share the last one."""
    wide = {name for name in names if name in OPTIONS and OPTIONS[name].spec.multiple}
    narrow = [name for name in names if name not in wide and name not in PHOTOS]
    rows = [tuple(narrow[start : start + COLUMNS]) for start in range(0, len(narrow), COLUMNS)]
    return [*rows, *((name,) for name in names if name in wide), tuple(PHOTOS)]


def _size(name: str) -> dict[str, int]:
    is_slider = widget(OPTIONS[name].spec)[0] is gr.Slider
    return {"scale": SCALE, "min_width": SLIDER_MIN_WIDTH if is_slider else MIN_WIDTH}


def _build_one(name: str) -> Any:
    if name == "detector":
        return gr.Dropdown(label="Detector", choices=[USE_SETTING, *engine.available_detectors()], value=USE_SETTING)
    if name == "only_swapped":
        return gr.Checkbox(label="Only swapped faces", value=False)
    if name in PHOTOS:
        return gr.Image(label=PHOTOS[name], type="pil", height=PHOTO_HEIGHT)
    return build_option(OPTIONS[name])


def build_option(option: Option, **more: Any) -> Any:
    """Return the component of a declared option with its default value. `more` is passed to gradio."""
    kind, made_with = widget(option.spec)
    return kind(label=option.spec.label_with_unit, value=to_widget(option.spec, default_value(option)), **made_with, **more)


def _missing_files(**given: Any) -> tuple[Any, ...]:
    values = parse_values(**given)
    return engine.missing_files(values.model, values.options, values.detector)


def parse_values(
    enable: Any = None,
    model: Any = None,
    only_swapped: Any = None,
    detector: Any = None,
    **given: Any,
) -> ControlValues:
    """Parse the values of the controls; `given` holds options by name. Raises `OptionsError` for an invalid value or an
    unknown name."""
    photos = {name: given.pop(name, None) for name in PHOTOS}
    for name, photo in photos.items():
        if photo is not None and not isinstance(photo, Image.Image):  # a text could name a file
            raise OptionsError(f"{name} is {type(photo).__name__}; expected an image. Send it to /gpen/v1/restore.")
    unknown = [name for name in given if name not in OPTIONS]
    if unknown:
        known = ", ".join(("enable", *CONTROL_NAMES))
        raise OptionsError(f"Unknown GPEN option {unknown[0]!r}. Available: {known}.")
    options = RestoreOptions.from_request({name: from_widget(one, given.get(name)) for name, one in OPTIONS.items()})
    references = {name: (photo,) for name, photo in photos.items() if photo is not None}
    options = replace(options, faces=with_references(options.faces, **references))
    named, is_enabled = str(model or default_model()), parse_switch("enable", enable)
    only_swapped = parse_switch("only_swapped", only_swapped)
    return ControlValues(is_enabled, find_model(named) or named, options, only_swapped, _parse_detector(detector))


def parse_switch(name: str, value: Any) -> bool:
    """Return the value of a checkbox; None is off. Raises `OptionsError` for another value, such as the text `false`."""
    if value not in (None, False, True):
        raise OptionsError(f"{name} is {value!r}; expected true or false.")
    return bool(value)


def _parse_detector(name: Any) -> str:
    if name in (None, "", USE_SETTING):
        return engine.default_detector()
    if name not in engine.available_detectors():
        raise OptionsError(
            f"Unknown detector {name!r}. Available: {', '.join((USE_SETTING, *engine.available_detectors()))}."
        )
    return str(name)

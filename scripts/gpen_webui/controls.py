"""The controls that the Extras page and the main page share, and what their values mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import gradio as gr

from gpen_core import (
    AUTO_MODELS,
    COLORS,
    FACE_CHOICES,
    MASK_TYPES,
    ORDERS,
    REGIONS,
    OptionsError,
    RestoreOptions,
    match_network_name,
)

from . import engine, host, models_list

BY_NUMBER = "by number"
USE_SETTING = "as in the settings"
NO_LIMIT = 0  # of "at most so many faces"
DEFAULTS = RestoreOptions()
CONTROL_NAMES = ("model", "strength", "faces", "numbers", "order", "min_face_size", "mask_type", "color", "only_swapped")
ADVANCED_NAMES = (
    "detector",
    "confidence",
    "max_faces",
    "preserve",
    "mask_expand",
    "grain",
)  # last: saved calls of the API give values by their place
TOOLTIPS = {
    "model": "The number is the side of a face in pixels. What is missing is downloaded when first used.",
    "strength": "0 leaves the image as it is, 1 takes the restored faces whole.",
    "faces": "Which faces are restored.",
    "numbers": "Of the faces to restore, from 0, such as 0,2-4.",
    "order": "How faces are numbered: in rows like text, from left to right, or from large to small.",
    "min_face_size": "Faces whose box has a shorter side are left alone.",
    "mask_type": "auto: parsed on a GPU, a soft square on the CPU. parse: skin and hair, found by ParseNet.",
    "color": "auto: gray and sepia faces stay so. match gives all restored faces the colors that they had.",
    "only_swapped": "Only faces that differ from the image before ReActor or another swap.",
    "detector": "What finds faces; one of your own is listed from the models folder.",
    "confidence": "How sure the detector must be of a face. Lower finds more, and more that is none.",
    "max_faces": "Only so many, the largest. 0: all.",
    "preserve": f"Regions that stay as they were, by commas: {', '.join(REGIONS)}.",
    "mask_expand": "Moves the mask's edge outwards by so many widths of the face, inwards below 0.",
    "grain": "How much of the image's own grain restored faces get.",
}


_ids = count()


def default_model() -> str:
    return str(host.option("model", engine.model_choices()[0]))


def find_model(name: str) -> str | None:
    """The one of the models that is meant, in any capitals; None if there is none."""
    return name.lower() if name.lower() in AUTO_MODELS else match_network_name(name, host.models_dirs())


@dataclass(frozen=True)
class ControlValues:
    """What the controls say. None, as the API passes for what a caller leaves out, is the default."""

    enable: bool
    model: str
    strength: float
    options: RestoreOptions
    only_swapped: bool
    selection: str
    """`all`, `largest`, `center`, or the numbers as they were written."""
    detector: str
    """The detector."""


def build() -> dict[str, Any]:
    """The controls below the checkbox, by name, in the order of `parse_values`."""
    with gr.Row():
        model = gr.Dropdown(label="Model", choices=engine.model_choices(), value=default_model())
        refresh = models_list.refresh_button(model)
        strength = gr.Slider(
            label="Strength", minimum=0.0, maximum=1.0, step=0.01, value=float(host.option("strength", 1.0))
        )
    models_list.availability_line(refresh)
    with gr.Row():
        faces = gr.Dropdown(label="Faces", choices=[*FACE_CHOICES, BY_NUMBER], value=DEFAULTS.faces)
        numbers = gr.Textbox(label="Numbers", value="0", placeholder="from 0, such as 0,2-4", visible=False)
        order = gr.Dropdown(label="Order", choices=list(ORDERS), value=DEFAULTS.order, visible=False)
        min_face_size = gr.Slider(label="Min face size (px)", minimum=0, maximum=512, step=1, value=0)
    faces.change(fn=_toggle_number_controls, inputs=[faces], outputs=[numbers, order], show_progress=False)
    with gr.Row():
        mask_type = gr.Dropdown(
            label="Mask type", choices=list(MASK_TYPES), value=str(host.option("mask_type", DEFAULTS.mask_type))
        )
        color = gr.Dropdown(label="Color", choices=list(COLORS), value=str(host.option("color", DEFAULTS.color)))
        only_swapped = gr.Checkbox(label="Only swapped faces", value=False)
    return _with_tooltips(
        CONTROL_NAMES, (model, strength, faces, numbers, order, min_face_size, mask_type, color, only_swapped)
    )


def build_advanced(model: gr.Dropdown) -> dict[str, Any]:
    """What is seldom needed, folded away; `model` is the list of models above."""
    with gr.Accordion("More", open=False):
        with gr.Row():
            detector = gr.Dropdown(label="Detector", choices=[USE_SETTING, *engine.available_detectors()], value=USE_SETTING)
            confidence = gr.Slider(label="Confidence", minimum=0.0, maximum=1.0, step=0.01, value=DEFAULTS.confidence)
            max_faces = gr.Slider(label="Max faces (0: all)", minimum=NO_LIMIT, maximum=64, step=1, value=NO_LIMIT)
        with gr.Row():
            preserve = gr.Textbox(label="Preserve", value="", placeholder="such as eyes,mouth")
            mask_expand = gr.Slider(
                label="Expand the mask", minimum=-0.5, maximum=0.5, step=0.01, value=DEFAULTS.mask_expand
            )
            grain = gr.Slider(label="Grain", minimum=0.0, maximum=1.0, step=0.05, value=DEFAULTS.grain)
        models_list.accept_changed_button(model)
    return _with_tooltips(ADVANCED_NAMES, (detector, confidence, max_faces, preserve, mask_expand, grain))


def _with_tooltips(names: tuple[str, ...], components: tuple[Any, ...]) -> dict[str, Any]:
    """With tooltips as hosts of this family have them, which need an id; a page may have several of us."""
    for name, part in zip(names, components):
        part.webui_tooltip, part.elem_id = TOOLTIPS[name], f"gpen_{name}_{next(_ids)}"
    return dict(zip(names, components))


def _toggle_number_controls(faces: Any) -> list[Any]:
    return [gr.update(visible=faces == BY_NUMBER) for _ in ("numbers", "order")]


def parse_values(
    enable: Any = None,
    model: Any = None,
    strength: Any = None,
    faces: Any = None,
    numbers: Any = None,
    order: Any = None,
    min_face_size: Any = None,
    mask_type: Any = None,
    color: Any = None,
    only_swapped: Any = None,
    detector: Any = None,
    confidence: Any = None,
    max_faces: Any = None,
    preserve: Any = None,
    mask_expand: Any = None,
    grain: Any = None,
) -> ControlValues:
    """Raises `OptionsError` for a value that cannot be."""
    strength = float(host.option("strength", 1.0)) if strength is None else strength
    faces_choice = DEFAULTS.faces if faces is None else faces
    selection = str("0" if numbers is None else numbers) if faces_choice == BY_NUMBER else faces_choice
    options = RestoreOptions(
        strength=strength,
        faces=selection,
        order=order or DEFAULTS.order,
        min_face_size=min_face_size or 0,
        mask_type=mask_type or str(host.option("mask_type", DEFAULTS.mask_type)),
        color=color or str(host.option("color", DEFAULTS.color)),
        detection_size=int(host.option("detection_size", DEFAULTS.detection_size)),
        angles=str(host.option("angles", DEFAULTS.angles)),
        confidence=DEFAULTS.confidence if confidence is None else confidence,
        max_faces=_to_int(max_faces) or None,
        preserve=preserve or (),
        mask_expand=DEFAULTS.mask_expand if mask_expand is None else mask_expand,
        grain=DEFAULTS.grain if grain is None else grain,
    )
    named = str(model or default_model())
    known = find_model(named) or named
    return ControlValues(
        bool(enable), known, float(strength), options, bool(only_swapped), str(selection), _parse_detector(detector)
    )


def _to_int(value: Any) -> Any:
    """Sliders may give 3.0; what is no whole number is for `RestoreOptions` to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parse_detector(name: Any) -> str:
    if name in (None, "", USE_SETTING):
        return engine.default_detector()
    if name not in engine.available_detectors():
        raise OptionsError(
            f"detector is {name!r}; expected one of {', '.join((USE_SETTING, *engine.available_detectors()))}."
        )
    return str(name)

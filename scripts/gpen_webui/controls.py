"""The controls that the Extras page and the main page share, and what their values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from gpen_core import CHOICES, COLORS, MASKS, ORDERS, RestoreOptions, network_choice

from . import engine, host, models_list

BY_NUMBER = "by number"
DEFAULTS = RestoreOptions()
NAMES = ("model", "visibility", "faces", "numbers", "order", "min_face", "mask", "color", "only_changed")


def default_model() -> str:
    return str(host.option("model", engine.choices()[0]))


def model_named(name: str) -> str | None:
    """The one of the models that is meant, in any capitals; None if there is none."""
    return network_choice(name, host.models_dirs())


@dataclass(frozen=True)
class Values:
    """What the controls say. None, as the API passes for what a caller leaves out, is the default."""

    enable: bool
    model: str
    visibility: float
    options: RestoreOptions
    only_changed: bool


def build() -> dict[str, Any]:
    """The controls below the checkbox, by name, in the order of `values`."""
    with gr.Row():
        model = gr.Dropdown(label="Model", choices=engine.choices(), value=default_model())
        refresh = models_list.refresh_button(model)
        visibility = gr.Slider(
            label="Visibility", minimum=0.0, maximum=1.0, step=0.01, value=float(host.option("visibility", 1.0))
        )
    models_list.what_is_there(refresh)
    with gr.Row():
        faces = gr.Dropdown(label="Faces", choices=[*CHOICES, BY_NUMBER], value=DEFAULTS.faces)
        numbers = gr.Textbox(label="Numbers", value="0", placeholder="from 0, such as 0,2-4")
        order = gr.Dropdown(label="Numbered", choices=list(ORDERS), value=DEFAULTS.order)
        min_face = gr.Slider(label="Smallest face (px)", minimum=0, maximum=512, step=1, value=0)
    with gr.Row():
        mask = gr.Dropdown(label="Mask", choices=list(MASKS), value=str(host.option("mask", DEFAULTS.mask)))
        color = gr.Dropdown(label="Colour", choices=list(COLORS), value=str(host.option("color", DEFAULTS.color)))
        only_changed = gr.Checkbox(label="Only faces changed by a swap", value=False)
    return dict(zip(NAMES, (model, visibility, faces, numbers, order, min_face, mask, color, only_changed)))


def values(
    enable: Any = None,
    model: Any = None,
    visibility: Any = None,
    faces: Any = None,
    numbers: Any = None,
    order: Any = None,
    min_face: Any = None,
    mask: Any = None,
    color: Any = None,
    only_changed: Any = None,
) -> Values:
    """Raises `OptionsError` for a value that cannot be."""
    strength = host.option("visibility", 1.0) if visibility is None else visibility
    chosen = DEFAULTS.faces if faces is None else faces
    options = RestoreOptions(
        strength=strength,
        faces=str("0" if numbers is None else numbers) if chosen == BY_NUMBER else chosen,
        order=order or DEFAULTS.order,
        min_face=min_face or 0,
        mask=mask or str(host.option("mask", DEFAULTS.mask)),
        color=color or str(host.option("color", DEFAULTS.color)),
        detect_size=int(host.option("detect_size", DEFAULTS.detect_size)),
        angles=str(host.option("angles", DEFAULTS.angles)),
    )
    named = str(model or default_model())
    return Values(bool(enable), model_named(named) or named, float(strength), options, bool(only_changed))

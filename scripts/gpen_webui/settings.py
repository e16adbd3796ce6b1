"""The section "GPEN" of the settings page."""

from __future__ import annotations

import gradio as gr
from modules import shared

from gpen_core import ANGLES, COLORS, DETECTORS, MASKS, PRECISIONS, RestoreOptions

from . import engine

DEFAULTS = RestoreOptions()
SECTION = ("gpen", "GPEN")
NAME_FILES = ("models_path", "detector")
MODEL_LABEL = (
    'Model of the restorer GPEN, and the default elsewhere (its number is the side in pixels; "Restore faces" runs before '
    "ReActor and cannot clean up a swap)"
)


def add() -> None:
    """Adds our options to the host's."""
    models, finders = engine.choices(), engine.detectors()
    rows = {
        "model": (models[0], MODEL_LABEL, gr.Dropdown, models),
        "detector": (DETECTORS[0], "Face detector (one of your own is listed from the models folder)", gr.Dropdown, finders),
        "angles": (
            "auto",
            "Angles of heads (auto: tilted ones, and turned pictures where nothing is upright; all: always every angle)",
            gr.Dropdown,
            list(ANGLES),
        ),
        "precision": ("auto", "Precision", gr.Dropdown, list(PRECISIONS)),
        "mask": ("auto", "Mask (auto: parsed on a GPU, a soft square on the CPU)", gr.Dropdown, list(MASKS)),
        "color": ("none", "Colour (match keeps the picture's own)", gr.Dropdown, list(COLORS)),
    }
    for name, (default, label, component, choices) in rows.items():
        info = shared.OptionInfo(default, label, component, {"choices": choices}, section=SECTION)
        _add(name, info)
    visibility = {"minimum": 0, "maximum": 1, "step": 0.01}
    plain = {
        "visibility": shared.OptionInfo(1.0, "Visibility where none is asked for", gr.Slider, visibility, section=SECTION),
        "detect_size": shared.OptionInfo(
            DEFAULTS.detect_size,
            "Detection size: a longer side is reduced to so many pixels for the smallest faces; large ones are found at any",
            gr.Slider,
            {"minimum": 64, "maximum": 8192, "step": 8},
            section=SECTION,
        ),
        "unload": shared.OptionInfo(False, "Move the networks off the device after use", section=SECTION),
        "wrap_reactor": shared.OptionInfo(
            True,
            "Let ReActor's Restore Face run GPEN where GPEN is chosen there (ReActor itself would run GFPGAN)",
            section=SECTION,
        ),
        "models_path": shared.OptionInfo(
            "",
            "Models folder (empty: models/GPEN; models/facerestore_models and models/GFPGAN are searched, too)",
            section=SECTION,
        ),
    }
    for name, info in plain.items():
        _add(name, info)


def _add(name: str, info: shared.OptionInfo) -> None:
    info.restrict_api = name in NAME_FILES  # the host's HTTP API can set every other option
    shared.opts.add_option(f"gpen_{name}", info)

"""The section "GPEN" of the settings page."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
from modules import shared

from gpen_core import ANGLES, COLORS, MASK_TYPES, PRECISIONS, RestoreOptions

from . import engine, failure_cache, models_list, self_test

DEFAULTS = RestoreOptions()
SECTION = ("gpen", "GPEN")
CATEGORY = "postprocessing"
NAME_FILES = ("models_path", "detector")
MODEL_LABEL = (
    'Model of the restorer GPEN, and the default elsewhere (its number is the side in pixels; "Restore faces" runs before '
    "ReActor and cannot clean up a swap)"
)
DETECTOR_LABEL = "Face detector (one of your own is listed from the models folder)"


def add() -> None:
    """Adds our options to the host's."""
    _add("model", _file_dropdown(engine.model_choices, MODEL_LABEL))
    _add("detector", _file_dropdown(engine.available_detectors, DETECTOR_LABEL))
    rows = {
        "angles": (
            "auto",
            "Angles of heads (auto: tilted ones, and turned images where nothing is upright; all: always every angle)",
            ANGLES,
        ),
        "precision": ("auto", "Precision", PRECISIONS),
        "mask_type": ("auto", "Mask type (auto: parsed on a GPU, a soft square on the CPU)", MASK_TYPES),
        "color": (DEFAULTS.color, "Color (auto: gray stays gray; match keeps the image's own)", COLORS),
    }
    for name, (default, label, choices) in rows.items():
        _add(name, shared.OptionInfo(default, label, gr.Dropdown, {"choices": list(choices)}, section=SECTION))
    for name, info in _simple_options().items():
        _add(name, info)
    _add("self_test", self_test.option(SECTION))


def _file_dropdown(names: Callable[[], list[str]], label: str) -> shared.OptionInfo:
    """Files that are there and those that would be fetched; the button beside them looks anew."""
    return shared.OptionInfo(
        names()[0], label, gr.Dropdown, lambda: {"choices": names()}, section=SECTION, refresh=failure_cache.clear
    ).info(models_list.availability_html(names()))


def _simple_options() -> dict[str, shared.OptionInfo]:
    strength = {"minimum": 0, "maximum": 1, "step": 0.01}
    return {
        "strength": shared.OptionInfo(1.0, "Strength where none is asked for", gr.Slider, strength, section=SECTION),
        "detection_size": shared.OptionInfo(
            DEFAULTS.detection_size,
            "Detection size: a longer side is reduced to so many pixels for the smallest faces; large ones are found at any",
            gr.Slider,
            {"minimum": 64, "maximum": 8192, "step": 8},
            section=SECTION,
        ),
        "keep_failed": shared.OptionInfo(
            False, "Save an image of the Extras page as it was where GPEN could not restore it", section=SECTION
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


def _add(name: str, info: shared.OptionInfo) -> None:
    info.restrict_api = name in NAME_FILES  # the host's HTTP API can set every other option
    info.category_id = CATEGORY  # where the host has categories
    shared.opts.add_option(f"gpen_{name}", info)

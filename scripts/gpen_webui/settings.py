"""The section "GPEN" of the settings page: the defaults of declared options, and what concerns this host alone."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr
from modules import shared

from gpen_core import PRECISIONS

from . import engine, failure_cache, models_list, self_test
from .option_widgets import FRONT_END, OPTIONS, SETTING_GROUPS, to_widget, widget

SECTION = ("gpen", "GPEN")
CATEGORY = "postprocessing"
NAME_FILES = ("models_path", "detector")
HELP = {
    "model": 'The model of "Restore faces", and the default elsewhere.',
    "detector": "The network that finds faces. Your own detectors in the models folder are listed, too.",
    "precision": "What the networks compute in. auto chooses by the device.",
    "keep_failed": "Saves an image of the Extras page unchanged where GPEN could not restore it.",
    "unload": "Moves the networks off the device after each use.",
    "wrap_reactor": "Runs GPEN where GPEN is chosen as ReActor's Restore Face. ReActor itself would run GFPGAN.",
    "models_path": "Empty: models/GPEN. models/facerestore_models and models/GFPGAN are searched, too.",
}
"""Of the settings that are no declared options."""


def add() -> None:
    """Adds our options to the host's."""
    _add("model", _file_dropdown("Model", engine.model_choices))
    _add("detector", _file_dropdown("Detector", engine.available_detectors))
    for name, option in OPTIONS.items():
        spec = option.spec
        if spec.group in SETTING_GROUPS:
            kind, made_with = widget(spec)
            default = to_widget(spec, option.default_for(FRONT_END))
            _add(name, shared.OptionInfo(default, spec.label_with_unit, kind, made_with, section=SECTION), spec.help)
    precision = shared.OptionInfo("auto", "Precision", gr.Dropdown, {"choices": list(PRECISIONS)}, section=SECTION)
    _add("precision", precision)
    for name, title in {
        "keep_failed": "Save failed images",
        "unload": "Unload after use",
        "wrap_reactor": "GPEN in ReActor",
    }.items():
        _add(name, shared.OptionInfo(name == "wrap_reactor", title, section=SECTION))
    _add("models_path", shared.OptionInfo("", "Models folder", section=SECTION))
    _add("self_test", self_test.option(SECTION))


def _file_dropdown(title: str, names: Callable[[], list[str]]) -> shared.OptionInfo:
    """Files that are there and those that would be fetched; the button beside them looks anew."""

    def made_with() -> dict[str, Any]:
        return {"choices": names()}

    return shared.OptionInfo(names()[0], title, gr.Dropdown, made_with, section=SECTION, refresh=failure_cache.clear).html(
        f" {models_list.states_html(names())}"
    )


def _add(name: str, info: shared.OptionInfo, text: str = "") -> None:
    text = text or HELP.get(name, "")
    if text:  # not `info.info`, which puts it into parentheses: the host's localization needs it as it is
        info.html(f" <span class='info'>{html.escape(text)}</span>")
    info.restrict_api = name in NAME_FILES  # the host's HTTP API can set every other option
    info.category_id = CATEGORY  # where the host has categories
    shared.opts.add_option(f"gpen_{name}", info)

"""The "GPEN" section of the settings page: defaults of declared options, and settings of this host."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr
from modules import shared

from gpen_core import PRECISIONS, GpenError

from . import engine, failure_cache, host, self_test
from .option_widgets import FRONT_END, OPTIONS, from_widget, has_setting, to_widget, widget

SECTION = ("gpen", "GPEN")
CATEGORY = "postprocessing"
NAME_FILES = ("models_path", "detector")
CHECKBOXES = {"keep_failed": "Save failed images", "unload": "Unload after use", "wrap_reactor": "GPEN in ReActor"}
"""Titles by name."""
HELP = {
    "model": 'Model for "Restore faces", and the default everywhere else.',
    "detector": "Face detector. The list also has your own detectors from the models folder.",
    "precision": "Precision of the networks. auto depends on the device.",
    "keep_failed": "Save an image on the Extras page unchanged if GPEN fails.",
    "unload": "Move the networks off the device after each use.",
    "wrap_reactor": "Run GPEN if it is selected as ReActor's Restore Face. Otherwise ReActor runs GFPGAN in its place.",
    "models_path": "Folder for weights (models/GPEN if empty). models/facerestore_models and models/GFPGAN are searched, "
    "too.",
}
"""Help of the settings that are not declared options."""


def add() -> None:
    """Add our settings to the host's."""
    _add("model", _file_dropdown("Model", engine.model_choices))
    _add("detector", _file_dropdown("Detector", engine.available_detectors))
    for name, option in OPTIONS.items():
        spec = option.spec
        if has_setting(option):
            kind, made_with = widget(spec)
            default = to_widget(spec, option.default_for(FRONT_END))
            _add(name, shared.OptionInfo(default, spec.label_with_unit, kind, made_with, section=SECTION), spec.help)
    precision = shared.OptionInfo("auto", "Precision", gr.Dropdown, {"choices": list(PRECISIONS)}, section=SECTION)
    _add("precision", precision)
    for name, title in CHECKBOXES.items():
        _add(name, shared.OptionInfo(name == "wrap_reactor", title, section=SECTION))
    _add("models_path", shared.OptionInfo("", "Models folder", section=SECTION))
    _add("self_test", self_test.option(SECTION))


def reset_invalid() -> None:
    """Replace invalid saved values with the defaults, because the page cannot be built with them. The host's HTTP API saves
    any value, and users edit the file."""
    saved = shared.opts.data
    keys = {f"gpen_{name}": name for name in (*OPTIONS, *HELP)}
    for key in [key for key, name in keys.items() if key in saved and not _is_valid(name, saved[key])]:
        host.log.warning("GPEN: the saved setting %s is %r, which is invalid. Using the default.", key, saved.pop(key))


def _is_valid(name: str, value: Any) -> bool:
    if name == "precision":
        return value in PRECISIONS
    if name not in OPTIONS:
        return isinstance(value, bool if name in CHECKBOXES else str)
    option = OPTIONS[name]
    try:
        option.spec.validate(name, from_widget(option, value), option.default)
    except GpenError:
        return False
    return value is not None  # a slider would show its minimum, which the next "Apply settings" saves


def _file_dropdown(title: str, names: Callable[[], list[str]]) -> shared.OptionInfo:
    """Return a dropdown of present and downloadable files, with a refresh button."""

    def made_with() -> dict[str, Any]:
        return {"choices": names()}

    return shared.OptionInfo(names()[0], title, gr.Dropdown, made_with, section=SECTION, refresh=failure_cache.clear)


def _add(name: str, info: shared.OptionInfo, text: str = "") -> None:
    text = text or HELP.get(name, "")
    if text:  # not `info.info`, which adds parentheses: the host's localization needs the exact text
        info.html(f" <span class='info'>{html.escape(text)}</span>")
    info.restrict_api = name in NAME_FILES  # the host's HTTP API may set all other options
    info.category_id = CATEGORY  # used by hosts with categories
    shared.opts.add_option(f"gpen_{name}", info)

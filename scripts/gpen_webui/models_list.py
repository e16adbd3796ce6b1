"""Shows in the lists of files which ones are downloaded. The values of the lists stay file names."""

from __future__ import annotations

from collections.abc import Iterable

import gradio as gr
from modules import ui_common

from gpen_core import (
    AUTO_MODELS,
    GpenError,
    OptionsError,
    accept_changed_weights,
    download_size,
    find_file,
    needs_onnx_runtime,
    parse_auto_model,
    present_sizes,
)

from . import engine, failure_cache, host, run_report
from .localization import translate

ACCEPTED, NOT_ACCEPTED = "is now accepted.", "The file was not accepted."
DOWNLOADED, DOWNLOAD = "downloaded", "download"
NEEDS_ONNX_RUNTIME = "ONNX file; needs ONNX Runtime"
AUTO_DOWNLOAD = "GPEN-BFR-2048"  # the network that `auto` downloads if there is none
LISTS = ":is([id^=gpen_model_],#setting_gpen_model,[id^=gpen_detector_],#setting_gpen_detector)"
"""CSS selector of our lists of files on all pages."""
STATE_STYLE = "padding-inline-start:1em;opacity:.6"
LIST_STYLE = f"{LISTS} :is(ul.options,ul.options li){{min-width:max-content}}"  # the field's width would cut off states


def refresh_button(model: gr.Dropdown) -> gr.Component:
    """Return the refresh button of the list, which searches the folders again."""
    host.make_models_folder()
    return ui_common.create_refresh_button(model, failure_cache.clear, lambda: {"choices": engine.model_choices()}, None)


def accept_changed_button(model: gr.Dropdown) -> None:
    """Add the button that accepts a file which the user replaced under the same name."""
    button = gr.Button("Accept this model's changed file")
    message = gr.HTML("", visible=False)  # the page would leave a gap for an empty one
    button.click(fn=lambda name: gr.update(value=accept_changed(name), visible=True), inputs=[model], outputs=[message])


def accept_changed(model: str) -> str:
    """Accept the changed file and return the result as HTML."""
    try:
        if model not in engine.model_files():
            raise OptionsError(f"{model!r} is not a model file. Available: {', '.join(engine.model_files())}.")
        texts = accept_changed_weights(model, host.models_dirs()), ACCEPTED
    except GpenError as error:
        host.log.error("GPEN: %s", error)
        texts = NOT_ACCEPTED, str(error)
    failure_cache.clear()
    return run_report.paragraph(*texts)


def current_style() -> str:
    """Return the style sheet of all our lists for the current content of the folders, see `choices_style`."""
    return choices_style([*engine.model_choices(), *engine.available_detectors()])


def choices_style(names: Iterable[str]) -> str:
    """Return a style sheet that adds to each choice of the open lists whether it is downloaded, or the download size.
    The choices themselves stay file names: older gradio versions have no separate labels, and the hosts save labels."""
    rules = (
        f'{LISTS} li[aria-label="{_css_text(name)}"]::after{{content:"{_css_text(_state(name))}";{STATE_STYLE}}}'
        for name in names
    )
    return f"<style>{LIST_STYLE}{''.join(rules)}</style>"


def is_downloaded(name: str) -> bool:
    """Return whether the file is present. For `AUTO_MODELS`, return whether they can run without a download."""
    if name in AUTO_MODELS:
        return bool(set(parse_auto_model(name)) & set(present_sizes(host.models_dirs())))
    return find_file(name, host.models_dirs()) is not None


def _state(name: str) -> str:
    """Return the text beside a choice, in the host's language."""
    if needs_onnx_runtime(name, host.models_dirs()):
        return translate(NEEDS_ONNX_RUNTIME)
    if is_downloaded(name):
        return translate(DOWNLOADED)
    size = download_size(AUTO_DOWNLOAD if name in AUTO_MODELS else name)
    return f"{size / 1e6:.0f} MB {translate(DOWNLOAD)}" if size else translate(DOWNLOAD)


def _css_text(text: str) -> str:
    """Escape a string for a style sheet within HTML: every character except ASCII letters and digits."""
    return "".join(sign if sign.isascii() and sign.isalnum() else f"\\{ord(sign):x} " for sign in text)

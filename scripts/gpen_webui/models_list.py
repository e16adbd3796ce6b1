"""What is said of the models in the lists: which are there, which would be downloaded. The lists' values stay file names."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable

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

ACCEPTED, NOT_ACCEPTED = "is remembered as it is now.", "The file was not accepted."
DOWNLOADED, DOWNLOAD = "downloaded", "download"
NEEDS_ONNX_RUNTIME = "ONNX file; needs ONNX Runtime"
AUTO_DOWNLOAD = "GPEN-BFR-2048"  # what `auto` fetches where it has none
LISTS = ":is([id^=gpen_model_],#setting_gpen_model)"  # CSS: our lists of models in every page
STATE_STYLE = "padding-inline-start:1em;opacity:.6"
LIST_STYLE = f"{LISTS} ul.options{{min-width:22em}}"  # px of a narrow column do not hold a name and its state


def refresh_button(model: gr.Dropdown) -> gr.Component:
    """For the place beside the list: looks into the folders anew."""
    host.make_models_folder()
    return ui_common.create_refresh_button(model, failure_cache.clear, lambda: {"choices": engine.model_choices()}, None)


def accept_changed_button(model: gr.Dropdown) -> None:
    """For a file that the user replaced under the same name, which is refused until they say so."""
    button = gr.Button("Accept this model's changed file")
    message = gr.HTML("")
    button.click(fn=accept_changed, inputs=[model], outputs=[message])


def accept_changed(model: str) -> str:
    """HTML: what came of it."""
    try:
        if model not in engine.model_files():
            raise OptionsError(f"{model!r} is no file of a GPEN model. Choose one of {', '.join(engine.model_files())}.")
        texts = accept_changed_weights(model, host.models_dirs()), ACCEPTED
    except GpenError as error:
        host.log.error("GPEN: %s", error)
        texts = NOT_ACCEPTED, str(error)
    failure_cache.clear()
    return run_report.paragraph(*texts)


def choices_style(names: Iterable[str]) -> str:
    """A style sheet that writes beside each choice of the open list whether it is there, or how much its download would be.
    The choices themselves stay file names: older gradio knows no other label, and the hosts save labels."""
    rules = (
        f'{LISTS} li[aria-label="{_css_text(name)}"]::after{{content:"{_css_text(_state(name, translate))}";{STATE_STYLE}}}'
        for name in names
    )
    return f"<style>{LIST_STYLE}{''.join(rules)}</style>"


def states_html(names: Iterable[str]) -> str:
    """HTML: of each file whether it is there, or how much its download would be. The words that do not change are elements
    of their own, as the host's localization needs them."""
    states = ((name, _state(name, lambda word: f"<span>{word}</span>")) for name in names)
    return " &nbsp; ".join(
        f"<small>{html.escape(name)}: {state}</small>" for name, state in states if name not in AUTO_MODELS
    )


def is_downloaded(name: str) -> bool:
    """Whether the file is there; of `AUTO_MODELS` whether they would do without a download."""
    if name in AUTO_MODELS:
        return bool(set(parse_auto_model(name)) & set(present_sizes(host.models_dirs())))
    return find_file(name, host.models_dirs()) is not None


def _state(name: str, say: Callable[[str], str]) -> str:
    """What is said beside a choice; `say` is given each word of it that does not change."""
    if needs_onnx_runtime(name, host.models_dirs()):
        return say(NEEDS_ONNX_RUNTIME)
    if is_downloaded(name):
        return say(DOWNLOADED)
    size = download_size(AUTO_DOWNLOAD if name in AUTO_MODELS else name)
    return f"{size / 1e6:.0f} MB {say(DOWNLOAD)}" if size else say(DOWNLOAD)


def _css_text(text: str) -> str:
    """For a string in a style sheet within HTML: each sign by its number unless it is a letter or digit of ASCII."""
    return "".join(sign if sign.isascii() and sign.isalnum() else f"\\{ord(sign):x} " for sign in text)

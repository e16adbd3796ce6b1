"""What is said of the models in the lists: which are there, which would be downloaded. The lists' values stay file names."""

from __future__ import annotations

import html
from collections.abc import Sequence

import gradio as gr
from modules import ui_common

from gpen_core import AUTO_MODELS, GpenError, OptionsError, accept_changed_weights, download_size, find_file

from . import engine, failure_cache, host


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
            raise OptionsError(f"{model!r} is none of the GPEN models' files: {', '.join(engine.model_files())}.")
        message = f"{accept_changed_weights(model, host.models_dirs())} is remembered as it is now."
    except GpenError as error:
        host.notify(str(error))
        message = str(error)
    failure_cache.clear()
    return html.escape(message)


def availability_line(refresh: gr.Component) -> None:
    """A line below it that says what the folders hold. Neither is a value that a caller passes."""
    line = gr.HTML(availability_html(engine.model_files()))
    refresh.click(fn=lambda: availability_html(engine.model_files()), inputs=[], outputs=[line])


def availability_html(names: Sequence[str]) -> str:
    """HTML: which of these are there; which are fetched when first used, with their sizes. The words that do not change are
    elements of their own, as the host's localization needs them."""
    folders = host.models_dirs()
    files = [name for name in names if name not in AUTO_MODELS]
    available = [name for name in files if find_file(name, folders) is not None]
    missing_names = [f"{name}{_size(name)}" for name in files if name not in available]
    parts = [("There:", available), ("Downloaded when first used:", missing_names)]
    return " ".join(f"<span>{title}</span> {html.escape(', '.join(some))}." for title, some in parts if some)


def _size(name: str) -> str:
    size = download_size(name)
    return f" ({size / 1e6:.0f} MB)" if size else ""

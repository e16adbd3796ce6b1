"""What is said of the models in the lists: which are there, which would be downloaded. The lists' values stay file names."""

from __future__ import annotations

import html
from collections.abc import Sequence

import gradio as gr
from modules import ui_common

from gpen_core import AUTO_MODELS, GpenError, OptionsError, download_size, find_in, trust_weights

from . import engine, failure_cache, host


def refresh_button(model: gr.Dropdown) -> gr.Component:
    """For the place beside the list: looks into the folders anew."""
    host.make_models_folder()
    return ui_common.create_refresh_button(model, failure_cache.forget, lambda: {"choices": engine.choices()}, None)


def trust_button(model: gr.Dropdown) -> None:
    """For a file that the user replaced under the same name, which is refused until they say so."""
    button = gr.Button("Accept this model's changed file")
    said = gr.HTML("")
    button.click(fn=trusted, inputs=[model], outputs=[said])


def trusted(model: str) -> str:
    """HTML: what came of it."""
    try:
        if model not in engine.files():
            raise OptionsError(f"{model!r} is none of the GPEN models' files: {', '.join(engine.files())}.")
        said = f"{trust_weights(model, host.models_dirs())} is remembered as it is now."
    except GpenError as error:
        host.tell(str(error))
        said = str(error)
    failure_cache.forget()
    return html.escape(said)


def what_is_there(refresh: gr.Component) -> None:
    """A line below it that says what the folders hold. Neither is a value that a caller passes."""
    line = gr.HTML(in_words(engine.files()))
    refresh.click(fn=lambda: in_words(engine.files()), inputs=[], outputs=[line])


def in_words(names: Sequence[str]) -> str:
    """HTML: which of these are there; which are fetched when first used, with their sizes. The words that do not change are
    elements of their own, as the host's localisation needs them."""
    folders = host.models_dirs()
    files = [name for name in names if name not in AUTO_MODELS]
    there = [name for name in files if find_in(name, folders) is not None]
    absent = [f"{name}{_size(name)}" for name in files if name not in there]
    parts = [("There:", there), ("Downloaded when first used:", absent)]
    return " ".join(f"<span>{title}</span> {html.escape(', '.join(some))}." for title, some in parts if some)


def _size(name: str) -> str:
    size = download_size(name)
    return f" ({size / 1e6:.0f} MB)" if size else ""

"""What is said of the models in the lists: which are there, which would be downloaded. The lists' values stay file names."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import gradio as gr
from modules import ui_common

from gpen_core import (
    AUTO_MODELS,
    GpenError,
    OptionsError,
    accept_changed_weights,
    download_size,
    find_file,
    parse_auto_model,
    present_sizes,
)

from . import engine, failure_cache, host, run_report

LAST_COMPONENT = "footer"  # of the host's page: when it is made, the lists are in the page

_shown_lists: list[tuple[gr.Dropdown, gr.HTML]] = []


def reset() -> None:
    """A new page is built."""
    _shown_lists.clear()


def on_component(component: Any, **made_with: Any) -> None:
    """The host tells of each of its components. At the last one, the page is made to look into the folders at each load."""
    page = getattr(getattr(gr, "context", None), "Context", None)
    root = getattr(page, "root_block", None)
    if made_with.get("elem_id") == LAST_COMPONENT and root is not None and _shown_lists:
        outputs = [part for pair in _shown_lists for part in pair]
        root.load(fn=_reload, inputs=[], outputs=outputs, show_progress=False)


def _reload() -> list[Any]:
    count = len(_shown_lists)
    return [gr.update(choices=engine.model_choices()), states_html(engine.model_choices())] * count


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
        message = f"{accept_changed_weights(model, host.models_dirs())} is remembered as it is now."
    except GpenError as error:
        host.log.error("GPEN: %s", error)
        message = str(error)
    failure_cache.clear()
    return run_report.paragraph(message)


def availability_line(model: gr.Dropdown, refresh: gr.Component) -> None:
    """A line below the list that says of each choice what the folders hold. It is no value that a caller passes."""
    line = gr.HTML(states_html(engine.model_choices()))
    refresh.click(fn=lambda: states_html(engine.model_choices()), inputs=[], outputs=[line])
    _shown_lists.append((model, line))


def states_html(names: Iterable[str]) -> str:
    """HTML: of each file whether it is there, or how much its download would be. The words that do not change are elements
    of their own, as the host's localization needs them."""
    return " &nbsp; ".join(
        f"<small>{html.escape(name)}: {_state(name)}</small>" for name in names if name not in AUTO_MODELS
    )


def is_downloaded(name: str) -> bool:
    """Whether the file is there; of `AUTO_MODELS` whether they would do without a download."""
    if name in AUTO_MODELS:
        return bool(set(parse_auto_model(name)) & set(present_sizes(host.models_dirs())))
    return find_file(name, host.models_dirs()) is not None


def _state(name: str) -> str:
    if is_downloaded(name):
        return "<span>downloaded</span>"
    size = download_size(name)
    return f"{size / 1e6:.0f} MB <span>download</span>" if size else "<span>download</span>"

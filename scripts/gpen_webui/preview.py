"""Two buttons on the Extras page that save nothing: the faces with their numbers, and before and after side by side."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from gpen_core import GpenError

from . import controls, engine, host

SOURCE = "extras_image"  # the host's name of the picture on its Extras page
CHOOSE = "Choose a picture above first."
KEY = "Blue: would be restored. Orange: would be skipped."

Shown = tuple[Any, Any, str]

_source: list[Any] = []


def forget() -> None:
    """A new page is built: components of the one before are not to be used in it."""
    _source.clear()


def notice(component: Any, **made_with: Any) -> None:
    """The host tells of each of its components."""
    if made_with.get("elem_id") == SOURCE:
        _source[:] = [component]


def build(parts: dict[str, Any]) -> None:
    """Nothing where the host has no picture to show it of, such as in the main page."""
    if not _source:
        return
    with gr.Accordion("Preview", open=False):
        with gr.Row():
            buttons = gr.Button("Show faces and their numbers"), gr.Button("Before and after")
        said = gr.HTML()
        with gr.Row():
            pictures = [gr.Image(label=label, type="pil", interactive=False) for label in ("Before", "After")]
    for button, look in zip(buttons, (_faces, _before_and_after)):
        shown = partial(_show, look, tuple(parts))
        button.click(fn=shown, inputs=[_source[0], *parts.values()], outputs=[*pictures, said])


def _show(look: Callable[[Image.Image, controls.Values], Shown], names: Sequence[str], image: Any, *given: Any) -> Shown:
    if image is None:
        return None, None, CHOOSE
    try:
        with host.in_line():
            return look(image, controls.values(**dict(zip(names, given))))
    except GpenError as error:
        return image, None, html.escape(str(error))


def _faces(image: Image.Image, values: controls.Values) -> Shown:
    from gpen_core import faces_text, numbered

    faces = engine.faces(image, values.model, values.options, values.finder)
    drawn = numbered(np.asarray(image.convert("RGB")), faces)
    counts = faces_text(len(faces), sum(face.reason is None for face in faces), done="to restore")
    left = "".join(f"<br>{n}: {html.escape(face.reason)}" for n, face in enumerate(faces) if face.reason)
    return image, gr.update(value=Image.fromarray(drawn), label="Faces"), f"{counts}. {KEY}{left}"


def _before_and_after(image: Image.Image, values: controls.Values) -> Shown:
    result = engine.restore(image, values.model, values.options, finder=values.finder)
    return image, gr.update(value=result.image, label="After"), f"{result.summary}. Nothing is saved."

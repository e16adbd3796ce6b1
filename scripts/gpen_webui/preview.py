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

SOURCE = "extras_image"  # the host's name of the image on its Extras page
NO_IMAGE = "Choose an image above first."
LEGEND = "Blue: would be restored. Orange: would be skipped."

PreviewOutput = tuple[Any, Any, str]

_source_components: list[Any] = []


def reset() -> None:
    """A new page is built: components of the one before are not to be used in it."""
    _source_components.clear()


def on_component(component: Any, **made_with: Any) -> None:
    """The host tells of each of its components."""
    if made_with.get("elem_id") == SOURCE:
        _source_components[:] = [component]


def build(parts: dict[str, Any]) -> None:
    """Nothing where the host has no image to show it of, such as in the main page."""
    if not _source_components:
        return
    with gr.Accordion("Preview", open=False):
        with gr.Row():
            buttons = gr.Button("Show faces and their numbers"), gr.Button("Before and after")
        message = gr.HTML()
        with gr.Row():
            image_views = [gr.Image(label=label, type="pil", interactive=False) for label in ("Before", "After")]
    for button, render in zip(buttons, (_draw_faces, _before_and_after)):
        shown = partial(_run, render, tuple(parts))
        button.click(fn=shown, inputs=[_source_components[0], *parts.values()], outputs=[*image_views, message])


def _run(
    render: Callable[[Image.Image, controls.ControlValues], PreviewOutput], names: Sequence[str], image: Any, *values: Any
) -> PreviewOutput:
    if image is None:
        return None, None, NO_IMAGE
    try:
        with host.queued():
            return render(image, controls.parse_values(**dict(zip(names, values))))
    except GpenError as error:
        return image, None, html.escape(str(error))


def _draw_faces(image: Image.Image, values: controls.ControlValues) -> PreviewOutput:
    from gpen_core import draw_faces, faces_text

    faces = engine.select_faces(image, values.model, values.options, values.detector)
    drawn = draw_faces(np.asarray(image.convert("RGB")), faces)
    counts = faces_text(len(faces), sum(face.reason is None for face in faces), done="to restore")
    skipped = "".join(f"<br>{n}: {html.escape(face.reason)}" for n, face in enumerate(faces) if face.reason)
    return image, gr.update(value=Image.fromarray(drawn), label="Faces"), f"{counts}. {LEGEND}{skipped}"


def _before_and_after(image: Image.Image, values: controls.ControlValues) -> PreviewOutput:
    result = engine.restore(image, values.model, values.options, detector=values.detector)
    return image, gr.update(value=result.image, label="After"), f"{result.summary}. Nothing is saved."

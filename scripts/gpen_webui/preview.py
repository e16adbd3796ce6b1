"""Two preview buttons of the Extras page, which save nothing: faces with their numbers, and each face before and after.
A click on a face selects it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from gpen_core import FACE_CHOICES, GpenError, OptionsError, RestoreOptions, base_selection

from . import controls, engine, host, run_report
from .option_widgets import format_value

if TYPE_CHECKING:
    from gpen_core import Face

SOURCE = "extras_image"  # the host's name of the image on its Extras page
NOT_SAVED = "Nothing is saved."
NO_IMAGE = "Choose an image above first."
LEGEND = "Blue faces will be restored. Orange faces will be skipped. Click a face below to select or deselect it."
CROP_MARGIN, CROP_SIDE, GAP = 1.6, 384, 8
"""Side of a crop relative to the face's box, side of a crop (px), gap between before and after (px)."""

PreviewOutput = tuple[Any, list[tuple[Image.Image, str]], list[int], str]
"""The whole image, crops with captions, the face number of each crop, and HTML."""
Render = Callable[[Image.Image, controls.ControlValues], PreviewOutput]

_source_components: list[Any] = []


def reset() -> None:
    """Forget the components of the last page, because the host builds a new one."""
    _source_components.clear()


def on_component(component: Any, **made_with: Any) -> None:
    """The host calls this for each of its components."""
    if made_with.get("elem_id") == SOURCE:
        _source_components[:] = [component]


def build(parts: dict[str, Any]) -> None:
    """Add the buttons, if the page has an input image (the main page has none)."""
    if not _source_components:
        return
    with gr.Row():
        buttons = gr.Button("Show faces and their numbers"), gr.Button("Before and after")
    message, numbers = gr.HTML(f"<span>{NOT_SAVED}</span>"), gr.State([])  # gradio shows over a text that it works
    image = gr.Image(label="Preview", type="pil", interactive=False, visible=False)
    crops = gr.Gallery(label="Faces", columns=2, object_fit="contain", show_label=True, visible=False)
    for button, render in zip(buttons, (_draw_faces, _before_and_after)):
        shown = partial(_show, render, tuple(parts))
        button.click(fn=shown, inputs=[_source_components[0], *parts.values()], outputs=[image, crops, numbers, message])
    crops.select(fn=_choose, inputs=[numbers, parts["faces"]], outputs=[parts["faces"]], show_progress=False)


def toggle_number(faces: Any, number: int) -> str:
    """Return the text of the Faces control after a click on a face, which selects or deselects it."""
    try:
        chosen = base_selection(RestoreOptions.from_request({"faces": faces}).faces)
    except OptionsError:
        chosen = FACE_CHOICES[0]
    known = set() if isinstance(chosen, str) else set(chosen)
    return str(format_value(tuple(sorted(known ^ {number}))) or FACE_CHOICES[0])


def _choose(numbers: list[int], faces: Any, event: gr.SelectData) -> Any:
    return gr.update(value=toggle_number(faces, numbers[event.index]))


def _show(render: Render, names: Sequence[str], source: Any, *values: Any) -> list[Any]:
    """Return the updates of the outputs. Images that stay empty are hidden, because empty ones are as large as others."""
    *images, numbers, message = _run(render, names, source, *values)
    return [*(gr.update(value=value, visible=bool(value)) for value in images), numbers, message]


def _run(render: Render, names: Sequence[str], image: Any, *values: Any) -> PreviewOutput:
    if image is None:
        return None, [], [], run_report.paragraph(NO_IMAGE)
    try:
        with host.queued():
            return render(image, controls.parse_values(**dict(zip(names, values))))
    except GpenError as error:
        return image, [], [], run_report.paragraph(*host.failure_texts(error))


def _draw_faces(image: Image.Image, values: controls.ControlValues) -> PreviewOutput:
    from gpen_core import draw_faces

    faces = engine.select_faces(image, values.model, values.options, values.detector)
    drawn = draw_faces(np.asarray(image.convert("RGB")), faces)
    counts = _counts(faces, "to restore", sum(face.reason is None for face in faces))
    skipped = "".join(f"<br>{n}: {html.escape(face.reason)}" for n, face in enumerate(faces) if face.reason)
    crops, numbers = _crops(enumerate(faces), image)
    return Image.fromarray(drawn), crops, numbers, f"{counts} <span>{LEGEND}</span>{skipped}"


def _before_and_after(image: Image.Image, values: controls.ControlValues) -> PreviewOutput:
    result = engine.restore(image, values.model, values.options, detector=values.detector)
    restored = ((number, face) for number, face in enumerate(result.faces) if face.restored)
    crops, numbers = _crops(restored, image, result.image)
    counts = _counts(result.faces, "restored", sum(face.restored for face in result.faces))
    notes = "".join(f"<br>{html.escape(note)}" for note in result.notes)
    return result.image, crops, numbers, f"{counts} <span>{NOT_SAVED}</span>{notes}"


def _counts(faces: Sequence[Face], done: str, count: int) -> str:
    """Return the counts as HTML, each word in its own element, because the host's localization needs that."""
    skipped = len(faces) - count
    return f"<span>Faces found</span>: {len(faces)}, <span>{done}</span>: {count}, <span>skipped</span>: {skipped}."


def _crops(faces: Iterable[tuple[int, Face]], *images: Image.Image) -> tuple[list[tuple[Image.Image, str]], list[int]]:
    """Return a crop of each face, with all `images` side by side and the number as caption, and the numbers."""
    crops, numbers = [], []
    for number, face in faces:
        (x, y), half = face.center, max(face.width, face.height) * CROP_MARGIN / 2
        box = (round(x - half), round(y - half), round(x + half), round(y + half))
        sheet = Image.new("RGB", (len(images) * (CROP_SIDE + GAP) - GAP, CROP_SIDE), "white")
        for place, image in enumerate(images):
            crop = image.convert("RGB").crop(box).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.LANCZOS)
            sheet.paste(crop, (place * (CROP_SIDE + GAP), 0))
        crops.append((sheet, str(number)))
        numbers.append(number)
    return crops, numbers

"""A contact sheet to choose by eye: each face as several networks, masks and strengths give it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionsError, memory_for
from ..faces.align import Alignment, align, extract
from ..faces.blend import Canvas, soften_small
from ..faces.face import Face
from ..faces.postprocess import matched, shaped
from ..images.image import FloatImage, Picture, from_array
from ..options import RestoreOptions
from ..pipeline.inputs import Frame, Repair
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ProgressEvent, StageTimer, no_progress
from .contact_sheet import CELL, MARGIN, lettered, row, titles

RGB8 = NDArray[np.uint8]

AROUND = 0.6  # of the face's square: how much of the picture around it is at hand for what looks at its surroundings
LARGEST = 65_000  # px: what formats and viewers take


@dataclass(frozen=True)
class Choices:
    """What is set side by side: a row for each model and mask, a column for each strength. None is empty."""

    models: tuple[str, ...]
    strengths: tuple[float, ...]
    mask_types: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("models", "strengths", "mask_types"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise OptionsError(f"{name} is {values!r}; expected one value or several, each once.")
        for strength in self.strengths:
            RestoreOptions(strength=strength)
        for mask_type in self.mask_types:
            RestoreOptions(mask_type=mask_type)


@memory_for("this sheet", "choose fewer faces")
def contact_sheet(
    restorer: FaceRestorer,
    image: object,
    choices: Choices,
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
) -> RGB8:
    """[H, W, 3]: for each chosen face a row per model and mask, the picture's own face first, then one per strength.

    `restorer` is loaded with all of the models, in their order (`Models.load`). Faces are found once and go through each
    network once; all cells of a face show the same square, upright, at 320 px. Raises `OptionsError` where no face is
    chosen or the sheet would be too large, and what `FaceRestorer.restore` raises."""
    options = replace(options or RestoreOptions(), strength=1.0)
    tell = progress or no_progress
    (repair,) = restorer.find([Frame(image)], options, tell)
    chosen = [number for number, face in enumerate(repair.faces) if face.reason is None]
    rows = len(chosen) * len(choices.models) * len(choices.mask_types)
    if not chosen:
        raise OptionsError(f"No face to compare: {_why(repair.faces)}.")
    if (rows + 1) * (CELL + MARGIN) > LARGEST:
        raise OptionsError(f"{rows} rows make a sheet of more than {LARGEST} px. Choose fewer faces, models or mask types.")
    lines = [titles(_titles(choices))]
    for done, number in enumerate(chosen):
        event = ProgressEvent("restore", done, len(chosen), "face", "Restoring faces")
        tell(event)
        lines += _lines_of(restorer, repair, number, choices, options, tell, event)
    return np.vstack(lines)


def _titles(choices: Choices) -> list[str]:
    return ["input", *(f"strength {strength:g}" for strength in choices.strengths)]


def _why(faces: Sequence[Face]) -> str:
    if not faces:
        return "none was found"
    return "; ".join(f"face {number}: {face.reason}" for number, face in enumerate(faces))


def _lines_of(
    restorer: FaceRestorer,
    repair: Repair,
    number: int,
    choices: Choices,
    options: RestoreOptions,
    tell: Progress,
    event: ProgressEvent,
) -> Iterator[RGB8]:
    face = repair.faces[number]
    view = align(face.landmarks, CELL, options.template)
    for name, network in zip(choices.models, restorer.models.networks):
        size = network.network.size
        alignment = align(face.landmarks, size, options.template)
        if isinstance(alignment, str) or isinstance(view, str):
            raise OptionsError(f"Face {number} cannot be compared: {alignment}.")
        (output,) = network.outputs([alignment], repair.crop, StageTimer(), None, partial(tell, event))
        if output.restored is None:
            raise OptionsError(f"Face {number} cannot be compared: {output.note}.")
        width = repair.width(number, alignment)
        for mask_type in choices.mask_types:
            asked = replace(options, mask_type=mask_type)
            new, mask = shaped(asked, restorer.models.masking(asked, tell), output.crop, output.restored, width)
            new = soften_small(matched(asked, output.crop, new, mask), face)
            cells = [
                _cell(repair.picture, new, mask, alignment, view, strength, asked.grain)
                for strength in (0.0, *choices.strengths)
            ]
            yield row(lettered(f"face {number}\n{name}\n{mask_type}", CELL), cells)


def _cell(
    picture: Picture,
    new: FloatImage,
    mask: FloatImage | None,
    alignment: Alignment,
    view: Alignment,
    strength: float,
    grain: float,
) -> RGB8:
    """The face as the picture would show it, upright."""
    region = picture.around(alignment.region(*picture.size), math.ceil(AROUND * alignment.side))
    part = from_array(picture.region(region))
    canvas = Canvas(part)
    if strength:
        canvas.paste(new, mask, alignment.within(region), strength, grain)
    shown = extract(canvas.result, view.within(region))
    return np.asarray(np.rint(shown * 255), np.uint8)

"""A contact sheet to compare networks, masks and strengths by eye."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..errors import OptionsError, oom_context
from ..faces.align import Alignment, align_face, crop_face
from ..faces.blend import Canvas, blur_small_face
from ..faces.face import Face
from ..faces.fidelity import keep_input
from ..faces.postprocess import match_color, tone_and_mask
from ..faces.select import raise_if_missing
from ..images.image import RGB8, FloatImage, ImageData, from_array, to_uint8
from ..options import RestoreOptions
from ..pipeline.gpen_runner import GPENRunner, parse_auto_model
from ..pipeline.inputs import RestoreInput
from ..pipeline.operations import require_restoration
from ..pipeline.restorer import FaceRestorer
from ..pipeline.session import RestoreSession
from ..progress import Progress, ProgressEvent, StageTimer, no_progress
from .contact_sheet import CELL_SIZE, MARGIN, caption, header_row, sheet_row

CONTEXT_MARGIN = 0.6  # of the side of the face's square: context around it, for operations that read the surroundings
MAX_SHEET_SIDE = 65_000  # px: limit of file formats and viewers


@dataclass(frozen=True)
class CompareGrid:
    """The values to compare: one row per model and mask type, one column per strength. No tuple may be empty."""

    models: tuple[str, ...]
    strengths: tuple[float, ...]
    mask_types: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("models", "strengths", "mask_types"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise OptionsError(f"{name} is {values!r}; expected one or more values, each once.")
        if len(self.models) > 1 and any(map(parse_auto_model, self.models)):
            raise OptionsError(f"models is {self.models!r}; expected auto alone, or names and files of networks.")
        for strength in self.strengths:
            RestoreOptions(strength=strength)
        for mask_type in self.mask_types:
            RestoreOptions(mask_type=mask_type)


@oom_context("this sheet", "choose fewer faces")
def contact_sheet(
    restorer: FaceRestorer,
    image: object,
    grid: CompareGrid,
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
) -> RGB8:
    """Render a contact sheet, [H, W, 3], with one row per selected face, model and mask type.

    The first cell of a row shows the input, the others one strength each. `restorer` must have all models loaded, in the
    order of the grid (`ModelSet.load`), or `auto` alone. Faces are detected once and run through each network once. All
    cells of a face show the same square, upright, at 320 px. `options.min_identity` is not used, because the columns set the
    strength. Raises `OptionsError` if no face is selected or the sheet would be too large, `FaceNumberError` if a requested
    face does not exist, and the errors of `FaceRestorer.restore`."""
    for runner in restorer.models.runners:
        require_restoration(runner.operation, "a comparison")
    options = replace(RestoreOptions.or_default(options), strength=1.0)
    notify = progress or no_progress
    (session,) = restorer.start_sessions([RestoreInput(image)], options, notify)
    chosen = [number for number, face in enumerate(session.faces) if face.reason is None]
    raise_if_missing(options.faces, len(session.faces), require_all=True)
    row_count = len(chosen) * len(grid.models) * len(grid.mask_types)
    if not chosen:
        raise OptionsError(f"No face to compare: {_skip_reasons(session.faces)}.")
    if (row_count + 1) * (CELL_SIZE + MARGIN) > MAX_SHEET_SIDE:
        raise OptionsError(
            f"A sheet of {row_count} rows is higher than {MAX_SHEET_SIDE} px. Choose fewer faces, models or mask types."
        )
    sheet_rows = [header_row(_column_titles(grid))]
    for done, number in enumerate(chosen):
        event = ProgressEvent("restore", done, len(chosen), "face", "Restoring faces")
        notify(event)
        sheet_rows += _face_rows(restorer, session, number, grid, options, notify, event)
    return np.vstack(sheet_rows)


def _column_titles(grid: CompareGrid) -> list[str]:
    return ["input", *(f"strength {strength:g}" for strength in grid.strengths)]


def _skip_reasons(faces: Sequence[Face]) -> str:
    if not faces:
        return "none was found"
    return "; ".join(f"face {number}: {face.reason}" for number, face in enumerate(faces))


def _face_rows(
    restorer: FaceRestorer,
    session: RestoreSession,
    number: int,
    grid: CompareGrid,
    options: RestoreOptions,
    notify: Progress,
    event: ProgressEvent,
) -> Iterator[RGB8]:
    face = session.faces[number]
    cell_alignment = align_face(face.landmarks, CELL_SIZE, options.template)
    for name, runner in _named_runners(restorer, face, grid, options, notify):
        size = runner.network.size
        alignment = align_face(face.landmarks, size, options.template)
        if isinstance(alignment, str) or isinstance(cell_alignment, str):
            raise OptionsError(f"Face {number} cannot be compared: {alignment}.")
        (output,) = runner.run_batches([alignment], session.crop, StageTimer(), None, partial(notify, event))
        if output.restored is None:
            raise OptionsError(f"Face {number} cannot be compared: {output.note}.")
        width = session.width_ratio(number, alignment)
        for mask_type in grid.mask_types:
            cell_options = replace(options, mask_type=mask_type)
            mask_models, photo = restorer.models.mask_models(cell_options, notify), session.photo_residual
            restored, mask = tone_and_mask(cell_options, mask_models, output.crop, output.restored, width, photo=photo)
            restored = keep_input(cell_options.fidelity, session.image, alignment, output.crop, restored)
            restored = blur_small_face(match_color(cell_options, output.crop, restored, mask), face)
            cells = [
                _render_cell(session.image, restored, mask, alignment, cell_alignment, strength, cell_options.grain)
                for strength in (0.0, *grid.strengths)
            ]
            yield sheet_row(caption(f"face {number}\n{name}\n{mask_type}", CELL_SIZE), cells)


def _named_runners(
    restorer: FaceRestorer, face: Face, grid: CompareGrid, options: RestoreOptions, notify: Progress
) -> Iterator[tuple[str, GPENRunner]]:
    """The networks for a face, with what their rows are called: `auto` is the one that suits the face."""
    if not parse_auto_model(grid.models[0]):
        yield from zip(grid.models, restorer.models.runners)
        return
    alignment = align_face(face.landmarks, 1, options.template)
    if isinstance(alignment, str):
        raise OptionsError(f"A face cannot be compared: {alignment}.")
    runner = restorer.models.runner_for(alignment.side, notify)
    yield f"{grid.models[0]} ({runner.network.size})", runner


def _render_cell(
    image: ImageData,
    restored: FloatImage,
    mask: FloatImage | None,
    alignment: Alignment,
    cell_alignment: Alignment,
    strength: float,
    grain: float,
) -> RGB8:
    """Render the face, upright, as it would look in the image at this strength."""
    region = image.region_with_margin(alignment.source_region(*image.size), math.ceil(CONTEXT_MARGIN * alignment.side))
    context = from_array(image.crop_rgb(region))
    canvas = Canvas(context)
    if strength:
        canvas.paste(restored, mask, alignment.relative_to_region(region), strength, grain)
    return to_uint8(crop_face(canvas.result, cell_alignment.relative_to_region(region)))

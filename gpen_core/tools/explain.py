"""Images of each step of a restoration: detection, each face's crops and masks, and the result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..faces.align import Alignment, align_face, crop_face
from ..faces.draw import SELECTED_COLOR, WHITE, draw_crop_boxes, draw_faces
from ..faces.face import Face
from ..images.image import RGB8, FloatImage, ImageData, from_array, to_rgb8, to_uint8
from ..images.resize import resize
from ..options import RestoreOptions
from ..pipeline.restore_result import RestoreResult
from .contact_sheet import CELL_SIZE, caption, header_row, sheet_row

MAX_SHEET_ROWS = 20
"""Maximum number of faces on the sheet. Every face also has its own images."""
TINT_OPACITY = 0.5
"""Opacity of the color that marks the mask of a restored face."""
FIRST_STAGE = "1-found"
STAGE_NAME_PATTERN = re.compile(rf"{FIRST_STAGE}|2-squares|3-face-\d+-(cut|restored|mask)|4-mask|5-result|6-sheet")
"""Matches the names of all stages."""
SHEET_COLUMNS = ("input", "network output", "mask (blue)", "result")


@dataclass(frozen=True, eq=False)
class PipelineStage:
    """One step, as an image."""

    name: str
    """The file name without suffix. Names sort in the order of the steps."""
    image: RGB8
    text: str
    """What the image shows."""


def render_stages(image: ImageData, result: RestoreResult, options: RestoreOptions) -> Iterator[PipelineStage]:
    """Render the steps from `image` to `result`, which `FaceRestorer.restore_batch` returned with `keep_crops` and these
    options.

    - `1-found`: bounding boxes, landmarks and face numbers
    - `2-squares`: the input squares of the network
    - `3-face-N-cut`, `3-face-N-restored`, `3-face-N-mask`: each restored face at the network's size: input, output, and the
      mask in blue
    - `4-mask`: how much of each pixel is restored; white means all of it
    - `5-result`: the restored image
    - `6-sheet`: the first 20 restored faces, one per row, upright at 320 px

    Color-blind people can distinguish the blue from the orange."""
    restored_faces = _restored_faces(result, options)
    before, mask = to_rgb8(image), from_array(result.mask)
    yield PipelineStage(
        FIRST_STAGE, draw_faces(before, result.faces), "bounding boxes, landmarks and face numbers; orange: skipped"
    )
    squares = {number: (face, alignment) for number, face, alignment, _ in restored_faces}
    yield PipelineStage(
        "2-squares", draw_crop_boxes(before, squares), "input squares of the network; the thick edge is the top of the face"
    )
    rows: list[RGB8] = []
    for number, face, alignment, crop in restored_faces:
        source_crop = crop_face(image, alignment)
        mask_overlay = _tint_mask(source_crop, crop_face(mask, alignment)[..., 0])
        name = f"3-face-{number}"
        yield PipelineStage(f"{name}-cut", _to_uint8(source_crop), f"face {number}: network input")
        yield PipelineStage(f"{name}-restored", _to_uint8(crop), f"face {number}: network output, in the requested colors")
        yield PipelineStage(f"{name}-mask", mask_overlay, f"face {number}: mask (blue)")
        if len(rows) < MAX_SHEET_ROWS:
            cells = [
                _to_uint8(source_crop),
                _to_uint8(crop),
                mask_overlay,
                _to_uint8(crop_face(result.image_data, alignment)),
            ]
            rows.append(
                sheet_row(
                    caption(f"face {number}\n{_size_and_score(face)}", CELL_SIZE),
                    [resize(one, (CELL_SIZE, CELL_SIZE), "cubic") for one in cells],
                )
            )
    yield PipelineStage("4-mask", to_rgb8(mask), "how much of each pixel is restored; white: all of it")
    yield PipelineStage("5-result", to_rgb8(result.image_data), "the result")
    if rows:
        yield PipelineStage(
            "6-sheet", np.vstack([header_row(SHEET_COLUMNS), *rows]), "all steps of each face, one row per face"
        )


def _restored_faces(result: RestoreResult, options: RestoreOptions) -> list[tuple[int, Face, Alignment, FloatImage]]:
    """The number, face, square and network output of each restored face."""
    restored = [(number, face) for number, face in enumerate(result.faces) if face.restored]
    entries = []
    for (number, face), crop in zip(restored, result.crops, strict=True):
        alignment = align_face(face.landmarks, crop.shape[0], options.template)
        assert not isinstance(alignment, str)  # restored faces have an alignment
        entries.append((number, face, alignment, crop))
    return entries


def _size_and_score(face: Face) -> str:
    return f"{face.width:.0f}x{face.height:.0f} px, score {face.score:.2f}"


def _tint_mask(crop: FloatImage, mask: FloatImage) -> RGB8:
    """The crop in gray, blue where the mask [S, S] is 1, with a white contour where it is 0.5."""
    gray = np.repeat(crop.mean(2, keepdims=True), 3, axis=2)
    amount = TINT_OPACITY * mask[..., None]
    tinted = _to_uint8(gray + amount * (np.array(SELECTED_COLOR, np.float32) / 255 - gray))
    edges, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined = np.ascontiguousarray(tinted)
    cv2.drawContours(outlined, edges, -1, WHITE, max(1, mask.shape[0] // 256))
    return outlined


def _to_uint8(image: FloatImage) -> RGB8:
    return to_uint8(np.clip(image, 0, 1))

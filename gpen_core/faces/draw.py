"""Drawing boxes and numbers of faces onto an image, readable at every size and on every background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..images.image import RGB8, to_image_data, to_rgb8
from ..images.resize import resize
from .align import Alignment
from .face import Face

# Okabe and Ito's blue and vermilion ("Color Universal Design", 2008), which color-blind people can tell apart.
SELECTED_COLOR, SKIPPED_COLOR = (0, 114, 178), (213, 94, 0)
WHITE = (255, 255, 255)
# Height of a number: fraction of the face's shorter side, minimum and maximum fraction of the image's longer side,
# minimum in px.
NUMBER_HEIGHT, MIN_HEIGHT, MAX_HEIGHT, MIN_HEIGHT_PX = 0.14, 0.01, 0.045, 11
LINE_WIDTH = 1 / 9  # of a number's height
MAX_COORDINATE = 1e6  # px: OpenCV draws with 32-bit integers
GLYPH_SIZE = 96  # px: numbers are drawn large, then downscaled


def draw_faces(image: object, faces: Sequence[Face]) -> RGB8:
    """Return a copy of the image, [H, W, 3] RGB without alpha, with each face's box, landmarks and number. Skipped faces get
    another color. Raises `InputError` unless the image is an array, a PIL image or an `ImageData`, see
    `images.image.to_image_data`."""
    drawn: Any = to_rgb8(to_image_data(image))
    for face in faces:
        _draw_outline(drawn, face)
    for number, face in enumerate(faces):  # above all boxes
        _draw_label(drawn, str(number), face)
    return np.asarray(drawn, np.uint8)


def draw_crop_boxes(image: RGB8, squares: Mapping[int, tuple[Face, Alignment]]) -> RGB8:
    """Return a copy of the image ([H, W, 3] RGB) with each face's crop square and number. The square's top edge is twice
    as thick."""
    drawn: Any = image.copy()
    for face, alignment in squares.values():
        corners = _crop_corners(alignment)
        thick = _line_width(drawn, face)
        for color, more in ((WHITE, 2 * max(1, thick // 3)), (SELECTED_COLOR, 0)):
            cv2.polylines(drawn, [corners], True, color, thick + more, cv2.LINE_AA)
            cv2.line(drawn, corners[0], corners[1], color, 2 * thick + more, cv2.LINE_AA)
    for number, (face, _) in squares.items():
        _draw_label(drawn, str(number), face)
    return np.asarray(drawn, np.uint8)


def _crop_corners(alignment: Alignment) -> Any:
    """Return the crop's corners [4, 2] int32 in the image, clockwise from the face's top left."""
    low, high = -0.5, alignment.size - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    xy = corners @ alignment.inverse[:, :2].T + alignment.inverse[:, 2]
    return np.rint(np.clip(xy, -MAX_COORDINATE, MAX_COORDINATE)).astype(np.int32)


def _face_color(face: Face) -> tuple[int, int, int]:
    return SELECTED_COLOR if face.reason is None else SKIPPED_COLOR


def _draw_outline(drawn: Any, face: Face) -> None:
    thick = _line_width(drawn, face)
    (x0, y0), (x1, y1) = _box_corners(face)
    for color, width in ((WHITE, thick + 2 * max(1, thick // 3)), (_face_color(face), thick)):
        cv2.rectangle(drawn, (x0, y0), (x1, y1), color, width)
    for x, y in face.landmarks:
        if np.isfinite((x, y)).all() and max(abs(x), abs(y)) < MAX_COORDINATE:
            for color, radius in ((WHITE, thick + 1), (_face_color(face), thick)):
                cv2.circle(drawn, (round(x), round(y)), radius, color, cv2.FILLED, cv2.LINE_AA)


def _draw_label(drawn: Any, text: str, face: Face) -> None:
    """Draw the number in white on the face's color, above the box or, if there is no room, inside it."""
    height = _label_height(drawn, face)
    glyphs = _render_text(text, height)
    margin = max(2, height // 4)
    plate = np.full((glyphs.shape[0] + 2 * margin, glyphs.shape[1] + 2 * margin, 3), _face_color(face), np.float32)
    inner = plate[margin:-margin, margin:-margin]
    inner += glyphs[..., None] * (np.array(WHITE, np.float32) - inner)
    (x0, y0), _ = _box_corners(face)
    above = y0 - plate.shape[0]
    left, top = max(0, min(x0, drawn.shape[1] - plate.shape[1])), above if above >= 0 else max(0, y0)
    place = drawn[top : top + plate.shape[0], left : left + plate.shape[1]]
    place[:] = np.rint(plate[: place.shape[0], : place.shape[1]])


def _label_height(drawn: Any, face: Face) -> int:
    longest = max(drawn.shape[:2])
    side = face.shorter_side if np.isfinite(face.shorter_side) else 0.0
    return int(max(MIN_HEIGHT_PX, min(max(NUMBER_HEIGHT * side, MIN_HEIGHT * longest), MAX_HEIGHT * longest)))


def _line_width(drawn: Any, face: Face) -> int:
    return max(1, round(_label_height(drawn, face) * LINE_WIDTH))


def _box_corners(face: Face) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, y0, x1, y1 = (round(float(v)) for v in np.clip(np.nan_to_num(face.box), -MAX_COORDINATE, MAX_COORDINATE))
    return (x0, y0), (x1, y1)


def _render_text(text: str, height: int) -> NDArray[np.float32]:
    """Return the text as [height, W] in [0, 1]. Pillow's font is used because OpenCV 4 and 5 draw text in different
    sizes."""
    large = _render_glyphs(text)
    width = max(1, round(large.shape[1] * height / large.shape[0]))
    return np.asarray(np.clip(resize(large, (width, height), "cubic"), 0, 1), np.float32)


def load_font(pixels: int) -> Any:
    """Return Pillow's default font in this height, or its only small one, which has just the letters of Latin-1."""
    try:
        return ImageFont.load_default(pixels)
    except (TypeError, ImportError):  # Pillow before 10.1, or without FreeType
        return ImageFont.load_default()


@lru_cache(maxsize=256)
def _render_glyphs(text: str) -> NDArray[np.float32]:
    sheet = Image.new("L", (GLYPH_SIZE * (len(text) + 1), 2 * GLYPH_SIZE))
    ImageDraw.Draw(sheet).text((GLYPH_SIZE // 4, GLYPH_SIZE // 4), text, fill=255, font=load_font(GLYPH_SIZE))
    box = sheet.getbbox()
    assert box is not None  # digits are never blank
    return np.asarray(sheet.crop(box), np.float32) / np.float32(255)

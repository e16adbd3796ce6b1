"""Contact sheets: rows of a label and cells of equal height, separated by white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..faces.draw import load_font
from ..images.image import RGB8

CELL_SIZE = 320  # px: side of each face
MARGIN, FONT_SIZE = 8, 15  # px
LABEL_WIDTH = 230  # px: width of the column of row labels


def sheet_row(label: RGB8, cells: Sequence[RGB8]) -> RGB8:
    """Render one row: the label and the cells, with white between and below them."""
    gap = np.full((label.shape[0], MARGIN, 3), 255, np.uint8)
    parts = [label, *(part for cell in cells for part in (gap, cell))]
    joined = np.hstack([*parts, gap])
    return np.vstack([joined, np.full((MARGIN, joined.shape[1], 3), 255, np.uint8)])


def header_row(words: Sequence[str]) -> RGB8:
    """Render the first row: the titles of the columns."""
    return sheet_row(caption("", CELL_SIZE // 8), [caption(text, CELL_SIZE // 8, CELL_SIZE) for text in words])


def caption(text: str, height: int, width: int = LABEL_WIDTH) -> RGB8:
    """Render black text on white, [height, width, 3]. Paths are shortened to the file name; long lines are cut off."""
    label = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(label), load_font(FONT_SIZE)
    for number, line in enumerate(text.splitlines()):
        place, words = (MARGIN, MARGIN + number * (FONT_SIZE + MARGIN)), Path(line).name
        if not isinstance(font, ImageFont.FreeTypeFont):
            words = words.encode("latin-1", "replace").decode("latin-1")
        draw.text(place, words, fill="black", font=font)
    return np.asarray(label, np.uint8)


def grid(cells: Sequence[tuple[RGB8, RGB8]], columns: int = 6) -> RGB8:
    """Render cells in rows of up to `columns`, each a label above an image. All labels have one size, and all images."""
    blank = [np.full_like(part, 255) for part in cells[0]]
    padded = [*cells, *[(blank[0], blank[1])] * (-len(cells) % min(columns, len(cells)))]
    width = min(columns, len(cells))
    side = np.full((sum(part.shape[0] for part in blank), MARGIN, 3), 255, np.uint8)
    rows = [padded[n : n + width] for n in range(0, len(padded), width)]
    return np.vstack([sheet_row(side, [np.vstack(cell) for cell in row]) for row in rows])

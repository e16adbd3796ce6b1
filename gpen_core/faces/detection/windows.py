"""Windows: the parts of a pyramid's first level that show expected faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...images.image import Region, join_overlapping
from ..face import Box
from .image_source import BORDER, ImageBatch
from .pyramid import ScaleRange

# Margin on each side, as a fraction of the box's side: context for the network, and room for a face that has moved.
# Landmarks then differ from those of the whole level by less than if the image moves by some pixels.
MARGIN = 0.75
MAX_SHARE = 0.5  # of the level's area: if the windows need more, the level is searched as a whole


def search_windows(boxes: Sequence[Box], size: tuple[int, int], side: int, scale_range: ScaleRange) -> list[Region] | None:
    """Return disjoint windows around these boxes of an image of this (width, height), in pixels of a level whose longer
    side is `side`. None if they need more than `MAX_SHARE` of the level.

    Boxes above the `accurate` range are left out: smaller levels show such faces, too, and they are refined in any case.
    Windows begin on the grid of the network's coarsest features, so that they show a face as the whole level does."""
    scale = side / max(size)
    width, height = (max(1, round(length * scale)) for length in size)
    rows = np.array(boxes, np.float64).reshape(-1, 4) * scale
    sides = rows[:, 2:] - rows[:, :2]
    rows, sides = (part[sides.min(axis=1) <= scale_range.accurate[1]] for part in (rows, sides))
    around = np.hstack((rows[:, :2] - MARGIN * sides, rows[:, 2:] + MARGIN * sides))
    around[:, :2] = np.floor(around[:, :2] / BORDER) * BORDER
    around = np.clip(np.rint(around), 0, [width, height, width, height])
    windows = join_overlapping(Region(*(int(v) for v in row)) for row in around)
    area = sum((window.x1 - window.x0 + 2 * BORDER) * (window.y1 - window.y0 + 2 * BORDER) for window in windows)
    return windows if area <= MAX_SHARE * width * height else None


def cut_window(batch: ImageBatch, window: Region) -> ImageBatch:
    """Return the window of each image of a level."""
    return batch[:, window.y0 : window.y1, window.x0 : window.x1]


def rotate_window(window: Region, quarters: int, size: tuple[int, int]) -> Region:
    """Return where `rotation.rotate90` takes the window of a level of this (width, height)."""
    width, height = size
    x, y = (window.x0, window.x1), (window.y0, window.y1)
    left, top = (width - x[1], width - x[0]), (height - y[1], height - y[0])
    columns, rows = ((x, y), (y, left), (left, top), (top, x))[quarters]
    return Region(columns[0], rows[0], columns[1], rows[1])

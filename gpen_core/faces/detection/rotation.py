"""Rotating images by quarter turns for a detector trained on upright faces, and rotating its results back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...images.image import FloatImage
from .pyramid import BOTTOM_RIGHT, BOX, LANDMARKS, TOP_LEFT, Candidates


def rotate90(batch: FloatImage, quarters: int) -> FloatImage:
    """Return [B, H, W, 3] rotated counterclockwise by `quarters` quarter turns."""
    return np.rot90(batch, quarters, axes=(1, 2)).copy()


def unrotate90(found: Candidates, quarters: int, width: int, height: int) -> Candidates:
    """Convert candidates of a rotated image to pixels of the original image of `width` x `height`. Exact."""
    rows = found.rows.copy()
    corners = _unrotate_points(found.rows[:, BOX].reshape(-1, 2, 2), quarters, width, height)
    rows[:, TOP_LEFT], rows[:, BOTTOM_RIGHT] = corners.min(axis=1), corners.max(axis=1)
    points = _unrotate_points(found.rows[:, LANDMARKS].reshape(-1, 5, 2), quarters, width, height)
    rows[:, LANDMARKS] = points.reshape(-1, 10)
    return replace(found, rows=rows, angle=found.angle + 90.0 * quarters)


def _unrotate_points(points: NDArray[np.float64], quarters: int, width: int, height: int) -> NDArray[np.float64]:
    """Rotate points [..., 2] back; integer coordinates are pixel centers."""
    x, y = points[..., 0], points[..., 1]
    places = ((x, y), (width - 1 - y, x), (width - 1 - x, height - 1 - y), (y, height - 1 - x))
    return np.stack(places[quarters], axis=-1)

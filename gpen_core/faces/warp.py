"""Resampling under a similarity without aliasing."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage
from ..images.resize import resize

ROUNDING = 1e-6  # tolerance of the factor


def warp(
    image: FloatImage,
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    *,
    cubic: bool = True,
    replicate: bool = True,
) -> FloatImage:
    """Resample `image` ([H, W] or [H, W, C]) to `size` (width, height) pixels.

    `matrix` [2, 3] is a similarity from pixel centers of the image to those of the result. Enlarging only interpolates.
    Reducing first averages areas by the integer part of the factor. The rest (below 2) is sampled twice as densely in
    both directions and averaged, so that nothing aliases.
    Outside the image its border is repeated, or 0 if `replicate` is false.
    """
    factor = 1 / math.hypot(matrix[0, 0], matrix[1, 0])
    whole = max(1, int(factor + ROUNDING))
    reduced, to_grid = _reduce(image, matrix, whole) if whole > 1 else (image, matrix)
    interpolation = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    if factor <= whole + ROUNDING:
        out = cv2.warpAffine(reduced, to_grid, size, flags=interpolation, borderMode=border)
    else:
        finer = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])
        to_finer = (finer @ np.vstack((to_grid, [0.0, 0.0, 1.0])))[:2]
        dense = cv2.warpAffine(reduced, to_finer, (2 * size[0], 2 * size[1]), flags=interpolation, borderMode=border)
        out = resize(dense, size)
    return np.asarray(out, np.float32)


def _reduce(image: FloatImage, matrix: NDArray[np.float64], factor: int) -> tuple[FloatImage, NDArray[np.float64]]:
    """Return the image with `factor` x `factor` pixels averaged into one, and the matrix from there."""
    height, width = image.shape[:2]
    bottom, right = -height % factor, -width % factor
    if bottom or right:
        image = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.float32)
    size = ((width + right) // factor, (height + bottom) // factor)
    back = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]], np.float64)
    return np.asarray(resize(image, size), np.float32), matrix @ back

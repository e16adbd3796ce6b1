"""Which faces a face swap changed: the structure of the inner face before and after, at low frequencies.

Measured is luminance alone, on a small aligned crop without its detail, so that noise, recompression and the detail that
a restoration adds do not count. What is left is explained as far as possible by what is no swap: another brightness and
contrast, a shift of part of a pixel, a little more or less sharpness. The rest, beside the face's own contrast, is the
change.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..errors import InputError
from ..images.image import LUMA, ImageData, same_aspect_ratio
from .align import Alignment, Matrix, align_face, crop_face, ellipse_radius
from .face import Face, Landmarks

# Chosen from benchmarks/swap_threshold.py: see docs/face-swap.md for the table.
THRESHOLD = 0.2
SIZE = 64  # px: side of the template's square; the eyes are 13 px apart
SIGMA = 1.5  # px of that square: a ninth of the distance of the eyes
# The inner face, brows to chin, as parts of the side: center and half axes of an ellipse.
CENTER, HALF_AXES = (0.5, 0.61), (0.22, 0.23)
# Of luminance in [0, 1]: where a face has less contrast than this, compression alone would be a change.
MIN_CONTRAST = 0.02
# How much of each innocent change is allowed for: contrast by a half; shift in px of the crop; sharpness, as the weight
# of the Laplacian (a blur of sigma s adds s * s / 2).
FACTOR_LIMITS = np.array([0.5, 0.75, 0.75, 0.75])


def face_differences(before_swap: ImageData, swapped: ImageData, faces: Sequence[Face]) -> list[float]:
    """How much each face differs from the image before the swap: 0 if identical, about 1 for unrelated faces.

    From `THRESHOLD` on, the swap changed it. `faces` are those found in `swapped`, in its pixels. `before_swap` may have
    another size, scaled in x and y on its own, but not another aspect ratio (2 %): `InputError` otherwise. It may not be
    cropped or turned. Alpha is not looked at. A face that is only in `swapped` is a large change; one that is only in
    `before_swap` is not in `faces`, and there is nothing to restore. A face without usable landmarks, or that lies outside
    the image, gives nan.
    """
    scale = _scale(before_swap, swapped)
    return [_face_difference(before_swap, swapped, face.landmarks, scale) for face in faces]


def _scale(before_swap: ImageData, swapped: ImageData) -> Landmarks:
    """[2]: pixels of the image before the swap per pixel of the swapped image, in x and y."""
    if not same_aspect_ratio(before_swap.size, swapped.size):
        raise InputError(
            f"Expected the image before the swap in the shape of the swapped one, {swapped.width}x{swapped.height}, "
            f"got {before_swap.width}x{before_swap.height}. Nothing was compared. Give the image that the swap "
            "started from."
        )
    return np.array([before_swap.width / swapped.width, before_swap.height / swapped.height])


def _face_difference(before_swap: ImageData, swapped: ImageData, landmarks: Landmarks, scale: Landmarks) -> float:
    before = _crop(before_swap, (np.asarray(landmarks, np.float64) + 0.5) * scale - 0.5)  # pixel centers
    after = _crop(swapped, landmarks)
    return float("nan") if before is None or after is None else _relative_residual(before, after)


def _crop(image: ImageData, landmarks: Landmarks) -> Matrix | None:
    """[SIZE, SIZE] luminance in [0, 1] without its detail; None where there is no such face in the image."""
    alignment = align_face(landmarks, SIZE)
    if not isinstance(alignment, Alignment) or alignment.source_region(*image.size).empty:
        return None
    gray = (crop_face(image, alignment) @ LUMA).astype(np.float64)
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), SIGMA, borderType=cv2.BORDER_REPLICATE), np.float64)


def _relative_residual(before: Matrix, after: Matrix) -> float:
    """Root mean square of what innocent changes leave unexplained, relative to the mean contrast of the two."""
    from scipy.optimize import lsq_linear  # every host has it

    inside = ellipse_radius(SIZE, CENTER, HALF_AXES) <= 1
    dx, dy = (cv2.Sobel(before, cv2.CV_64F, x, 1 - x, ksize=1, scale=0.5) for x in (1, 0))  # per pixel
    images = np.stack((before, dx, dy, cv2.Laplacian(before, cv2.CV_64F)))
    columns = np.stack([_subtract_mean(image[inside]) for image in images], axis=1)  # [pixels, 4]
    change = _subtract_mean(after[inside]) - columns[:, 0]
    rest = change - columns @ lsq_linear(columns, change, (-FACTOR_LIMITS, FACTOR_LIMITS), method="bvls").x
    contrast = (before[inside].var() + after[inside].var()) / 2 + MIN_CONTRAST**2
    return float(np.sqrt((rest**2).mean() / contrast))


def _subtract_mean(values: Matrix) -> Matrix:
    return np.asarray(values - values.mean(), np.float64)

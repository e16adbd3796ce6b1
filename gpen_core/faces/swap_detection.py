"""Detecting which faces a face swap changed, from low frequencies of the inner face before and after.

Only luminance of a small aligned crop without fine detail is compared, so noise, recompression and added detail do not
count. The fit then explains other harmless changes as far as possible: brightness and contrast, a subpixel shift,
slightly more or less sharpness. The residual relative to the face's contrast is the change.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..errors import InputError
from ..images.image import LUMA, ImageData, same_aspect_ratio
from .align import Alignment, Matrix, align_face, crop_face, ellipse_radius
from .face import Face, Landmarks

# Chosen with benchmarks/swap_threshold.py; table in docs/faces-benchmarks.md.
THRESHOLD = 0.2
SIZE = 64  # px: side of the crop; the eyes are 13 px apart
SIGMA = 1.5  # px at SIZE: a ninth of the distance between the eyes
# The inner face, brows to chin: center and half axes of an ellipse, as fractions of the side.
CENTER, HALF_AXES = (0.5, 0.61), (0.22, 0.23)
# Luminance in [0, 1]: at less contrast, compression alone would count as a change.
MIN_CONTRAST = 0.02
# Limits of the harmless changes: contrast by a half; shift in px of the crop; sharpness as the weight of the Laplacian (a
# blur of sigma s adds s * s / 2).
FACTOR_LIMITS = np.array([0.5, 0.75, 0.75, 0.75])


def face_differences(before_swap: ImageData, swapped: ImageData, faces: Sequence[Face]) -> list[float]:
    """Return how much each face differs from the image before the swap: 0 if identical, about 1 for unrelated faces.

    At `THRESHOLD` or more, the swap changed the face. `faces` are those detected in `swapped`, in its pixels.
    `before_swap` may have another size, but its aspect ratio must match within 2 % (else `InputError`), and it may not be
    cropped or rotated. Alpha is ignored.
    A face present only in `swapped` gives a large value. A face present only in `before_swap` was removed by the swap, so
    there is nothing to restore. A face without usable landmarks, or outside the image, gives nan.
    """
    scale = _scale(before_swap, swapped)
    return [_face_difference(before_swap, swapped, face.landmarks, scale) for face in faces]


def _scale(before_swap: ImageData, swapped: ImageData) -> Landmarks:
    """Return [2]: pixels of the image before the swap per pixel of the swapped image, in x and y."""
    if not same_aspect_ratio(before_swap.size, swapped.size):
        raise InputError(
            f"The image before the swap is {before_swap.width}x{before_swap.height}, which does not match the aspect "
            f"ratio of the swapped image, {swapped.width}x{swapped.height}. Use the image that the swap started from."
        )
    return np.array([before_swap.width / swapped.width, before_swap.height / swapped.height])


def _face_difference(before_swap: ImageData, swapped: ImageData, landmarks: Landmarks, scale: Landmarks) -> float:
    before = _crop(before_swap, (np.asarray(landmarks, np.float64) + 0.5) * scale - 0.5)  # pixel centers
    after = _crop(swapped, landmarks)
    return float("nan") if before is None or after is None else _relative_residual(before, after)


def _crop(image: ImageData, landmarks: Landmarks) -> Matrix | None:
    """Return luminance [SIZE, SIZE] in [0, 1] without fine detail; None if the face is not inside the image."""
    alignment = align_face(landmarks, SIZE)
    if not isinstance(alignment, Alignment) or alignment.source_region(*image.size).empty:
        return None
    gray = (crop_face(image, alignment) @ LUMA).astype(np.float64)
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), SIGMA, borderType=cv2.BORDER_REPLICATE), np.float64)


def _relative_residual(before: Matrix, after: Matrix) -> float:
    """Return the RMS residual that harmless changes do not explain, relative to the mean contrast of both."""
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

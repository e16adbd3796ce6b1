"""The colors of a restored crop beside those that its face had: matched, or of one tone where it was gray or sepia."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import LUMA, FloatImage
from ..images.resize import resize
from .align import ellipse_radius

TONE_SIZE = 64  # px: what a face's tone is measured at; noise and the blocks of JPEG's chroma average out
# Face, hair and chin in the template's square, as parts of the side: center and half axes of an ellipse.
CENTER, HALF_AXES = (0.5, 0.56), (0.27, 0.34)
NUM_KNOTS = 8  # of the tone line
GRAY_CHROMA = 0.75 / 255  # mean chroma: less is rounding, and what is given back is gray itself
# Chosen on faces that are pale (15 % of their color), dim (a tenth of their light) or neither, and the same gray and in
# sepia: see docs/faces.md.
NOISE_CHROMA = 1.5 / 255  # mean chroma: less is gray with a little noise
MAX_TONE_RESIDUAL = 0.07
LUT_SIZE = 4096  # of luminance, in the table that is looked up


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """The line of colors that a gray or sepia face consists of."""

    luma: NDArray[np.float64]
    """[K], rising, in [0, 1]."""
    chroma: NDArray[np.float64]
    """[K, 3]: what is added to each at that luminance; on a line on both sides of the last."""

    def apply(self, crop: FloatImage) -> FloatImage:
        """The crop ([S, S, 3] RGB in [0, 1]) with its luminance and the tone's colors."""
        luma = crop @ LUMA
        toned = luma[..., None] + self.lookup_table()[np.rint(luma * (LUT_SIZE - 1)).astype(np.int16)]
        return np.asarray(np.clip(toned, 0, 1), np.float32)

    def lookup_table(self) -> FloatImage:
        """[STEPS, 3]: what is added to each channel, by luminance from 0 to 1."""
        steps = np.linspace(0, 1, LUT_SIZE)
        return np.column_stack([np.interp(steps, self.luma, channel) for channel in self.chroma.T]).astype(np.float32)


def fit_tone(crop: FloatImage) -> tuple[ToneCurve, bool]:
    """The tone that is nearest to a face's colors, and whether it is all of them.

    `crop` is [S, S, 3] RGB in [0, 1], aligned. Looked at is what luminance does not explain: lips, cheeks and eyes differ
    in color from skin of the same brightness, in a gray or sepia photograph nothing does."""
    small = resize(crop, (TONE_SIZE, TONE_SIZE)).astype(np.float64)
    colors = small[ellipse_radius(TONE_SIZE, CENTER, HALF_AXES) <= 1]
    luma = colors @ LUMA.astype(np.float64)
    chroma = colors - luma[:, None]
    strength = _rms_length(chroma)
    if strength < GRAY_CHROMA:
        return ToneCurve(np.array([0.0, 1.0]), np.zeros((2, 3))), True
    knots = np.asarray(np.unique(np.quantile(luma, (np.arange(NUM_KNOTS) + 0.5) / NUM_KNOTS)), np.float64)
    weights = _interpolation_weights(luma, knots)
    line = np.asarray(np.linalg.lstsq(weights, chroma, rcond=None)[0], np.float64)
    rest = _rms_length(chroma - weights @ line)
    return ToneCurve(knots, line), bool(
        strength <= NOISE_CHROMA or rest <= MAX_TONE_RESIDUAL * np.sqrt(strength * luma.std())
    )


def transfer_color(restored: FloatImage, crop: FloatImage, mask: FloatImage) -> FloatImage:
    """Gives the restored crop the mean and standard deviation that each channel of the crop has inside the mask.

    Reinhard et al., "Color Transfer between Images", IEEE CG&A 21(5), 2001, section 3, in RGB.
    """
    size = (crop.shape[1], crop.shape[0])
    inside = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) >= 0.5).astype(np.uint8)
    if not inside.any():
        return restored
    (mean_from, std_from), (mean_to, std_to) = cv2.meanStdDev(restored, mask=inside), cv2.meanStdDev(crop, mask=inside)
    ratio = np.divide(std_to, std_from, out=np.ones_like(std_to), where=std_from > 1e-4).ravel()
    return np.asarray(np.clip((restored - mean_from.ravel()) * ratio + mean_to.ravel(), 0, 1), np.float32)


def _rms_length(chroma: NDArray[np.float64]) -> float:
    """Root mean square of the length of [N, 3]."""
    return float(np.sqrt((chroma**2).sum(1).mean()))


def _interpolation_weights(luma: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, K]: of each knot at each luminance, for the line between them."""
    return np.column_stack([np.interp(luma, knots, row) for row in np.eye(len(knots))])

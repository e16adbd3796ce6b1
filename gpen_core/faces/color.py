"""The colors of a restored crop beside those that its face had: matched, or of one tone where it was gray or sepia."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import LUMA, FloatImage, ImageData
from ..images.resize import resize, scaled_size
from .align import ellipse_radius

TONE_SIZE = 64  # px: what a face's tone is measured at; noise and the blocks of JPEG's chroma average out
# Face, hair and chin in the template's square, as parts of the side: center and half axes of an ellipse.
CENTER, HALF_AXES = (0.5, 0.56), (0.27, 0.34)
NUM_KNOTS = 8  # of the tone line
GRAY_CHROMA = 0.5 / 255  # mean chroma: less is rounding, and what is given back is gray itself
PHOTO_SIZE = 96  # px: square root of the area that a whole photograph is looked at with
COARSE_RATIO = 4  # it is reduced to so many times that size first, in its own samples, whose rounding then averages out
SMOOTHING = 3  # px, of both tone and color: JPEG has color at half the resolution
# px between colors that are compared: about a twelfth of the photograph, further than noise and JPEG's blocks reach.
LAG, FACE_LAG = 8, 4
# Chosen on faces that are pale (15 % of their color), dim (a tenth of their light) or neither, and the same gray and in
# sepia, with noise and as JPEG: see docs/faces.md.
MAX_PHOTO_RESIDUAL = 0.03  # the whole photograph is of one tone
MAX_FACE_RESIDUAL = 0.1  # in such a photograph, of a face that has no colors of its own
MAX_TONE_RESIDUAL = 0.025  # of a face alone, noise and all
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


@dataclass(frozen=True, eq=False)
class _ToneFit:
    """The line through colors, and what it leaves."""

    tone: ToneCurve
    rest: NDArray[np.float64]
    """[H, W, 3]: what the line does not explain; nan where nothing was asked for."""
    chroma: float
    """Root mean square."""
    contrast: float
    """Standard deviation of luminance."""

    @property
    def residual(self) -> float:
        """What is left, noise and all, as a part of the geometric mean of chroma and contrast."""
        return _rms_length(self.rest[np.isfinite(self.rest[..., 0])]) / self._scale

    def correlated_residual(self, lag: int) -> float:
        """The same of what is alike `lag` pixels further: colors are, noise and the errors of JPEG's blocks are not."""
        products = [(self.rest[:, lag:] * self.rest[:, :-lag]).sum(2), (self.rest[lag:] * self.rest[:-lag]).sum(2)]
        values = np.concatenate([product.ravel() for product in products])
        values = values[np.isfinite(values)]
        return float(np.sqrt(max(0.0, values.mean()))) / self._scale if len(values) else self.residual

    @property
    def _scale(self) -> float:
        return float(np.sqrt(max(self.chroma * self.contrast, 1e-12)))


def photo_residual(image: ImageData) -> float:
    """How much of a photograph's colors its luminance does not explain: about 0 where it is gray or of one tone, above
    `MAX_PHOTO_RESIDUAL` where it is colored, however pale or dim. Noise does not count."""
    if image.pixels.shape[2] == 1:
        return 0.0
    scale = PHOTO_SIZE / math.sqrt(image.width * image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    coarse = resize(image.pixels, scaled_size(image.size, min(max(image.size), COARSE_RATIO * max(size))))
    small = np.asarray(resize(np.asarray(coarse, np.float32), size) / np.float32(image.max_value), np.float32)
    fit = _fit_line(small, np.ones(small.shape[:2], bool), SMOOTHING)
    return 0.0 if fit.chroma < GRAY_CHROMA else fit.correlated_residual(LAG)


def fit_tone(crop: FloatImage, photo: float = math.inf) -> tuple[ToneCurve, bool]:
    """The tone that is nearest to a face's colors, and whether it is all of them.

    `crop` is [S, S, 3] RGB in [0, 1], aligned; `photo` is the `photo_residual` of the image that it comes from. Looked at is
    what luminance does not explain: lips, cheeks and eyes differ in color from skin of the same brightness, in a gray or
    sepia photograph nothing does. Where the whole photograph is of one tone, noise does not count as color."""
    small = resize(crop, (TONE_SIZE, TONE_SIZE))
    fit = _fit_line(small, ellipse_radius(TONE_SIZE, CENTER, HALF_AXES) <= 1)
    if fit.chroma < GRAY_CHROMA:
        return ToneCurve(np.array([0.0, 1.0]), np.zeros((2, 3))), True
    is_in_tone = photo <= MAX_PHOTO_RESIDUAL and fit.correlated_residual(FACE_LAG) <= MAX_FACE_RESIDUAL
    return fit.tone, bool(is_in_tone or fit.residual <= MAX_TONE_RESIDUAL)


def _fit_line(colors: FloatImage, inside: NDArray[np.bool_], smoothing: int = 1) -> _ToneFit:
    """`colors` [H, W, 3] RGB in [0, 1], of which those `inside` [H, W] count. With `smoothing` the line's colors are
    compared with those that are there as means of so many pixels in x and y."""
    exact = np.asarray(colors, np.float64)
    luma = np.asarray(exact @ LUMA.astype(np.float64), np.float64)
    chroma = exact - luma[..., None]
    values = luma[inside]
    knots = np.asarray(np.unique(np.quantile(values, (np.arange(NUM_KNOTS) + 0.5) / NUM_KNOTS)), np.float64)
    weights = _interpolation_weights(luma.ravel(), knots).reshape(*luma.shape, len(knots))
    if smoothing > 1:
        weights = np.asarray(cv2.blur(weights, (smoothing, smoothing)), np.float64).reshape(weights.shape)
        chroma = np.asarray(cv2.blur(chroma, (smoothing, smoothing)), np.float64)
    line = np.asarray(np.linalg.lstsq(weights[inside], chroma[inside], rcond=None)[0], np.float64)
    rest = np.where(inside[..., None], chroma - weights @ line, np.nan)
    return _ToneFit(ToneCurve(knots, line), rest, _rms_length(chroma[inside]), float(values.std()))


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

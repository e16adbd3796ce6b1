"""Color of restored crops: matched to the input, or in one tone where the input is gray or sepia."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import LUMA, FloatImage, ImageData
from ..images.resize import resize, scaled_size
from .align import ellipse_radius

TONE_SIZE = 64  # px: crop size for measuring a face's tone; noise and JPEG's chroma blocks average out
# Face, hair and chin in the crop: center and half axes of an ellipse, as fractions of the side.
CENTER, HALF_AXES = (0.5, 0.56), (0.27, 0.34)
NUM_KNOTS = 8  # of the tone curve
GRAY_CHROMA = 0.5 / 255  # RMS chroma: below it, color is rounding error and the result is exactly gray
PHOTO_SIZE = 96  # px: square root of the area that a whole photo is reduced to for the test
COARSE_RATIO = 4  # the photo is first reduced to this many times that size in its own dtype: rounding averages out
SMOOTHING = 3  # px, for both luminance and chroma: JPEG stores chroma at half the resolution
# px between compared colors: about a twelfth of the photo, further than noise and JPEG blocks correlate.
LAG, FACE_LAG = 8, 4
# Chosen on normal, pale (15 % of their color) and dim (10 % of their light) faces, and on the same in gray and sepia,
# with noise and JPEG: see docs/faces-benchmarks.md.
MAX_PHOTO_RESIDUAL = 0.03  # of a whole photo in one tone
MAX_FACE_RESIDUAL = 0.1  # of a monochrome face in such a photo
MAX_TONE_RESIDUAL = 0.025  # of a single face, noise included
LUT_SIZE = 4096  # luminance steps of the lookup table
MIN_STD = 1e-4  # of a channel in [0, 1]: below it, `transfer_color` does not change the contrast


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """The curve from luminance to chroma that a gray or sepia face consists of."""

    luma: NDArray[np.float64]
    """[K], ascending, in [0, 1]."""
    chroma: NDArray[np.float64]
    """[K, 3]: added to R, G and B at that luminance; linear in between, constant beyond the ends."""

    def apply(self, crop: FloatImage) -> FloatImage:
        """Return the crop ([S, S, 3] RGB in [0, 1]) with its own luminance and the curve's colors."""
        luma = crop @ LUMA
        toned = luma[..., None] + self.lookup_table()[np.rint(luma * (LUT_SIZE - 1)).astype(np.int16)]
        return np.asarray(np.clip(toned, 0, 1), np.float32)

    def lookup_table(self) -> FloatImage:
        """Return [LUT_SIZE, 3]: the value added to each channel, by luminance from 0 to 1."""
        steps = np.linspace(0, 1, LUT_SIZE)
        return np.column_stack([np.interp(steps, self.luma, channel) for channel in self.chroma.T]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _ToneFit:
    """A tone curve fitted to an image's colors, and its residual."""

    tone: ToneCurve
    rest: NDArray[np.float64]
    """[H, W, 3]: chroma that the curve does not explain; nan outside the region."""
    chroma: float
    """Root mean square of the chroma."""
    contrast: float
    """Standard deviation of luminance."""

    @property
    def residual(self) -> float:
        """The residual, noise included, relative to the geometric mean of chroma and contrast."""
        return _rms_length(self.rest[np.isfinite(self.rest[..., 0])]) / self._scale

    def correlated_residual(self, lag: int) -> float:
        """Return the residual that correlates over `lag` pixels: real colors do, noise and JPEG block errors do not."""
        products = [(self.rest[:, lag:] * self.rest[:, :-lag]).sum(2), (self.rest[lag:] * self.rest[:-lag]).sum(2)]
        values = np.concatenate([product.ravel() for product in products])
        values = values[np.isfinite(values)]
        return float(np.sqrt(max(0.0, values.mean()))) / self._scale if len(values) else self.residual

    @property
    def _scale(self) -> float:
        return float(np.sqrt(max(self.chroma * self.contrast, 1e-12)))


def photo_residual(image: ImageData) -> float:
    """Return how much color variation of a photo its brightness does not explain.

    About 0 for a gray or single-tone photo, above `MAX_PHOTO_RESIDUAL` for a colored one, even if it is pale or dim.
    Noise does not count."""
    if image.pixels.shape[2] == 1:
        return 0.0
    scale = PHOTO_SIZE / math.sqrt(image.width * image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    coarse = resize(image.pixels, scaled_size(image.size, min(max(image.size), COARSE_RATIO * max(size))))
    small = np.asarray(resize(np.asarray(coarse, np.float32), size) / np.float32(image.max_value), np.float32)
    fit = _fit_curve(small, np.ones(small.shape[:2], bool), SMOOTHING)
    return 0.0 if fit.chroma < GRAY_CHROMA else fit.correlated_residual(LAG)


def fit_tone(crop: FloatImage, photo: float = math.inf) -> tuple[ToneCurve, bool]:
    """Return the tone curve nearest to a face's colors, and whether it explains all of them.

    `crop` is [S, S, 3] RGB in [0, 1], aligned. `photo` is the `photo_residual` of its image.
    The test looks at the color variation that brightness does not explain. Lips, cheeks and eyes differ in color from
    skin of the same brightness; in a gray or sepia photo nothing does. If the whole photo is in one tone, noise does not
    count as color."""
    small = resize(crop, (TONE_SIZE, TONE_SIZE))
    fit = _fit_curve(small, ellipse_radius(TONE_SIZE, CENTER, HALF_AXES) <= 1)
    if fit.chroma < GRAY_CHROMA:
        return ToneCurve(np.array([0.0, 1.0]), np.zeros((2, 3))), True
    is_in_tone = photo <= MAX_PHOTO_RESIDUAL and fit.correlated_residual(FACE_LAG) <= MAX_FACE_RESIDUAL
    return fit.tone, bool(is_in_tone or fit.residual <= MAX_TONE_RESIDUAL)


def _fit_curve(colors: FloatImage, inside: NDArray[np.bool_], smoothing: int = 1) -> _ToneFit:
    """Fit a tone curve to those `colors` [H, W, 3] (RGB in [0, 1]) that are `inside` [H, W].

    `smoothing` is the side in px of the box filter for both the curve's colors and the image's colors before they are
    compared."""
    exact = np.asarray(colors, np.float64)
    luma = np.asarray(exact @ LUMA.astype(np.float64), np.float64)
    chroma = exact - luma[..., None]
    values = luma[inside]
    knots = np.asarray(np.unique(np.quantile(values, (np.arange(NUM_KNOTS) + 0.5) / NUM_KNOTS)), np.float64)
    weights = _interpolation_weights(luma.ravel(), knots).reshape(*luma.shape, len(knots))
    if smoothing > 1:
        weights = np.asarray(cv2.blur(weights, (smoothing, smoothing)), np.float64).reshape(weights.shape)
        chroma = np.asarray(cv2.blur(chroma, (smoothing, smoothing)), np.float64)
    knot_chroma = _least_squares(weights[inside], chroma[inside])
    rest = np.where(inside[..., None], chroma - weights @ knot_chroma, np.nan)
    return _ToneFit(ToneCurve(knots, knot_chroma), rest, _rms_length(chroma[inside]), float(values.std()))


def _least_squares(weights: NDArray[np.float64], chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chroma [K, 3] of each knot from weights [N, K] and chroma [N, 3].

    By the normal equations: on all N rows LAPACK starts threads, which costs more than the arithmetic."""
    gram, moments = (np.einsum("nk,nc->kc", weights, one) for one in (weights, chroma))
    return np.asarray(np.linalg.lstsq(gram, moments, rcond=None)[0], np.float64)


def transfer_color(restored: FloatImage, crop: FloatImage, mask: FloatImage) -> FloatImage:
    """Give the restored crop the per-channel mean and standard deviation of the input crop inside the mask.

    Reinhard et al., "Color Transfer between Images", IEEE CG&A 21(5), 2001, section 3, in RGB.
    """
    size = (crop.shape[1], crop.shape[0])
    inside = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) >= 0.5).astype(np.uint8)
    if not inside.any():
        return restored
    (mean_from, std_from), (mean_to, std_to) = cv2.meanStdDev(restored, mask=inside), cv2.meanStdDev(crop, mask=inside)
    ratio = np.divide(std_to, std_from, out=np.ones_like(std_to), where=std_from > MIN_STD).ravel()
    return np.asarray(np.clip((restored - mean_from.ravel()) * ratio + mean_to.ravel(), 0, 1), np.float32)


def _rms_length(chroma: NDArray[np.float64]) -> float:
    """Return the root mean square length of vectors [N, 3]."""
    return float(np.sqrt((chroma**2).sum(1).mean()))


def _interpolation_weights(luma: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [N, K]: the weight of each knot at each luminance in linear interpolation."""
    return np.column_stack([np.interp(luma, knots, row) for row in np.eye(len(knots))])

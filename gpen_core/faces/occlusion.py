"""Occlusion masks: where input and restored crop differ at low frequencies by more than restoring explains.

The statistic is that of `swap_detection`, but per pixel and in color. Both crops are low-pass filtered. The restored crop
is fitted to the input by brightness, contrast, tint, a subpixel shift and a change of sharpness.
Pixels that do not fit get little weight (Geman and McClure, "Statistical methods for tomographic image reconstruction",
Bulletin of the ISI 52, 1987). The residual is relative to the face's contrast. It counts less at edges of the restored
crop, because restoring may move them a little."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import LUMA, FloatImage
from ..images.resize import resize
from .align import Matrix, ellipse_radius
from .mask import MASK_SIZE
from .swap_detection import CENTER, HALF_AXES, MIN_CONTRAST

SIZE = 96  # px: both crops are compared at this size
SIGMA = 1.6  # px at SIZE: finer detail is ignored
# Chosen with benchmarks/occlusion.py; table in docs/faces-benchmarks.md. Relative to the face's contrast.
SEED_THRESHOLD, GROW_THRESHOLD = 0.8, 0.35
EDGE_TOLERANCE = 0.8  # px at SIZE by which edges may have moved
MIN_AREA = 0.004  # of the crop: smaller spots are ignored
CLOSING_RADIUS = 5  # px at SIZE: gaps up to twice as wide are closed
DILATION = 1.5  # px at SIZE
# Each channel of the input is fitted by six images of the restored crop: the same channel, the luminance, the channel's
# gradients in x and y, its Laplacian and a constant. Without any change their factors are PRIOR. They may differ from it by
# PRIOR_LIMITS. That allows a tint, less contrast or no color, a shift by one pixel, and another sharpness and brightness.
PRIOR = np.array([1.0, 0, 0, 0, 0, 0])
PRIOR_LIMITS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.4])
RIDGE = 0.003  # how strongly the factors are pulled to PRIOR, relative to each image's power
OUTSIDE_WEIGHT = 0.3  # weight outside the inner face
ITERATIONS = 6
MAD_TO_DEVIATION = 1.4826  # standard deviation of a normal distribution, per median absolute deviation
MIN_DEVIATION = 0.02  # of the residual, which keeps the weights of a perfect fit finite
ROBUST_SCALE = 1.5  # deviations: beyond it, a pixel's weight in the fit falls quickly


def occlusion_mask(crop: FloatImage, restored: FloatImage) -> FloatImage:
    """Return the mask [512, 512] in [0, 1]: 1 where something covers the face and the input is preserved, else 0.

    `crop` (input) and `restored` (network output) are [S, S, 3] RGB in [0, 1] of the same square; S may differ. Edges are
    soft over one pixel at `SIZE`."""
    rest = residual_map(crop, restored)
    occluded = _hysteresis_threshold(rest)
    if not occluded.any():
        return np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
    size = 2 * CLOSING_RADIUS + 1
    closed = cv2.morphologyEx(occluded, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    outside = cv2.distanceTransform((closed == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    soft = np.clip(1.5 + DILATION - outside, 0, 1).astype(np.float32)
    return np.asarray(np.clip(resize(soft, (MASK_SIZE, MASK_SIZE), "cubic"), 0, 1), np.float32)


def residual_map(crop: FloatImage, restored: FloatImage) -> Matrix:
    """Return the unexplained difference [SIZE, SIZE]; 1 where it is as large as the face's contrast."""
    before, after = _downscale(restored), _downscale(crop)
    dx, dy = (cv2.Sobel(before, cv2.CV_64F, x, 1 - x, ksize=1, scale=0.5) for x in (1, 0))  # per pixel
    laplacian, gray = cv2.Laplacian(before, cv2.CV_64F), before @ LUMA.astype(np.float64)
    level = np.ones((SIZE, SIZE))
    by_channel = (np.stack((before[..., c], gray, dx[..., c], dy[..., c], laplacian[..., c], level)) for c in range(3))
    columns = [np.asarray(images, np.float64) for images in by_channel]  # [6, SIZE, SIZE] each
    weight = np.clip(2 - ellipse_radius(SIZE, CENTER, HALF_AXES), OUTSIDE_WEIGHT, 1)  # 1 in the inner face, less around it
    contrast = np.sqrt(_contrast(before, weight) + MIN_CONTRAST**2)
    edges = np.sqrt((dx**2 + dy**2).sum(2) / 3)
    robust_weight = weight
    rest = np.zeros((SIZE, SIZE))
    for _ in range(ITERATIONS):
        left = np.stack([_fit_residual(columns[c], after[..., c], robust_weight) for c in range(3)], axis=2)
        faded = np.sqrt(min(1.0, (_contrast(after - left, weight) + MIN_CONTRAST**2) / contrast**2))
        rest = np.sqrt((left**2).mean(2)) / (faded * (contrast + EDGE_TOLERANCE * edges))
        deviation = MAD_TO_DEVIATION * np.median(rest[weight > 0.5]) + MIN_DEVIATION
        robust_weight = weight / (1 + (rest / (ROBUST_SCALE * deviation)) ** 2) ** 2
    return np.asarray(rest)


def _hysteresis_threshold(rest: Matrix) -> NDArray[np.uint8]:
    """Return the connected parts above GROW_THRESHOLD that exceed SEED_THRESHOLD somewhere and are not tiny, [SIZE, SIZE]
    of 0 and 1."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((rest > GROW_THRESHOLD).astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= MIN_AREA * SIZE**2
    strong = np.zeros(count, bool)
    strong[np.unique(labels[rest > SEED_THRESHOLD])] = True
    good = large & strong
    good[0] = False
    return np.asarray(good[labels], np.uint8)


def _fit_residual(images: Matrix, after: Matrix, weight: Matrix) -> Matrix:
    """Return one channel of the input minus its fit by the images [6, SIZE, SIZE] within `PRIOR_LIMITS`."""
    columns = images.reshape(len(images), -1).T
    weighted = columns * weight.reshape(-1, 1)
    normal = weighted.T @ columns
    # A weak pull to PRIOR: if most pixels have no weight, the channel is fitted by itself.
    ridge = np.diag(RIDGE * np.diag(normal) + 1e-9)
    factors = np.linalg.solve(normal + ridge, weighted.T @ after.ravel() + ridge @ PRIOR)
    return np.asarray(after - (columns @ np.clip(factors, PRIOR - PRIOR_LIMITS, PRIOR + PRIOR_LIMITS)).reshape(after.shape))


def _contrast(image: Matrix, weight: Matrix) -> float:
    """Return the weighted variance of the three channels' mean."""
    gray = image.mean(2)
    mean = (gray * weight).sum() / weight.sum()
    return float(((gray - mean) ** 2 * weight).sum() / weight.sum())


def _downscale(crop: FloatImage) -> Matrix:
    small = resize(crop, (SIZE, SIZE))
    return np.asarray(cv2.GaussianBlur(small, (0, 0), SIGMA, borderType=cv2.BORDER_REPLICATE), np.float64)

"""Film grain for restored faces: noise with the strength, spectrum and colors of the noise around them.

Grain is added to the pixels that a face is pasted into, not to the network's crop. The restored face's own noise is
measured in the same way, and only the difference is added.
The noise is a fixed field over the whole image, seeded from the image's data. Neither the order of faces nor batching
changes it, and overlapping faces get the same grain.
"""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np

from ..images.image import MAX_VALUES, FloatImage, ImageData, Region
from .align import Alignment
from .spectrum import NUM_RINGS, PATCH_SIZES, RING_CENTERS, RING_EDGES, Matrix, Spectrum, estimate_noise

MAX_PATCHES = 600  # sampled at most
MIN_MARGIN = 48  # px: sampled at least this far around a face
MIN_PATCHES = 32  # patches: if fewer fit, smaller ones are used
MIN_DEVIATION = 0.5 / 255  # below this deviation there is little but 8-bit rounding, which is invisible
BLOCK_SIZE = 128  # px: the noise field is generated in blocks of this side
KERNEL_RADIUS = 15  # px: radius of the grain's filter
FREQUENCY_GRID = 64  # frequencies per axis that the filter is computed on
MIN_WEIGHT = 0.2  # mask value below which the loss from blending is not fully compensated


def add_grain(
    image: ImageData, alignment: Alignment, region: Region, restored: FloatImage, weight: FloatImage, amount: float
) -> None:
    """Add the image's grain in place to `restored` [h, w, 3] (RGB in [0, 1]), a face warped into `region` of the image.

    `weight` [h, w] in [0, 1] is the face's share of each pixel. Blending averages the image's noise with the face's and
    weakens both, so the grain is stronger where the share is small. The blend then has the image's noise level.
    `amount` (0 to 1) scales the grain's deviation. If the image has no measurable noise (below `MIN_DEVIATION`), the face
    is not changed.
    """
    image_noise = _image_noise(image, alignment)
    if image_noise is None or image_noise.variance < MIN_DEVIATION**2:
        return
    face_noise = _face_noise(restored, alignment, region)
    grain = _synthesize_grain(image_noise.subtract(face_noise), image, region)
    if grain is None:
        return
    noise_ratio = min(1.0, math.sqrt(face_noise.variance / image_noise.variance))
    restored += grain * (np.float32(amount) * _compensation_gain(weight, 1 - noise_ratio))[..., None]
    np.clip(restored, 0, 1, out=restored)


def _compensation_gain(weight: FloatImage, missing: float) -> FloatImage:
    """Return the factor [h, w] by which grain must be stronger where the face has only the share `weight` of a pixel.

    Let the image's noise have deviation s and the face's (1 - m) s, of the same noise. A blend with weight w then has (1
    - w m) s. The missing power relative to s^2 is 1 - (1 - w m)^2 = w m (2 - w m). Grain with w k times its deviation at
    w = 1, where m (2 - m) is missing, adds exactly that.
    """
    w = np.maximum(weight, MIN_WEIGHT)
    return np.asarray(np.sqrt((2 - w * np.float32(missing)) / (w * np.float32(2 - missing))), np.float32)


def sampled_region(image: ImageData, alignment: Alignment) -> Region:
    """Return the part of the image in and around a face's square in which its noise is measured."""
    inner = alignment.source_region(*image.size)
    grow = max(MIN_MARGIN, (inner.x1 - inner.x0) // 2, (inner.y1 - inner.y0) // 2)
    return image.region_with_margin(inner, grow)


def _image_noise(image: ImageData, alignment: Alignment) -> Spectrum | None:
    """Return the noise in and around the face's square, without rounding noise, which the result has anyway."""
    side, places = _patch_grid(sampled_region(image, alignment))
    if not places:
        return None
    step = 1 / image.max_value if image.pixels.dtype in MAX_VALUES else 0.0
    patches = [image.crop_rgb(Region(x, y, x + side, y + side)) for x, y in places]
    return estimate_noise(np.stack(patches), step**2 / 12)


def _face_noise(restored: FloatImage, alignment: Alignment, region: Region) -> Spectrum:
    """Return the restored face's own noise; zero if the face is too small to measure."""
    side, places = _patch_grid(region, alignment)
    patches = [restored[y - region.y0 :, x - region.x0 :][:side, :side] for x, y in places]
    return (estimate_noise(np.stack(patches)) if patches else None) or Spectrum.zero()


def _patch_grid(region: Region, square: Alignment | None = None) -> tuple[int, list[tuple[int, int]]]:
    """Return the patch side and the patches' corners (x, y), evenly over the region or over its part inside a face's
    square. The side is the smallest of `PATCH_SIZES` if fewer than `MIN_PATCHES` fit."""
    places: list[tuple[int, int]] = []
    for side in PATCH_SIZES:
        width, height = region.x1 - region.x0 - side + 1, region.y1 - region.y0 - side + 1
        if width < 1 or height < 1:
            continue
        step = max(side // 4, math.ceil(math.sqrt(width * height / MAX_PATCHES)))
        corners = [
            (x, y)
            for y in range(region.y0, region.y1 - side + 1, step)
            for x in range(region.x0, region.x1 - side + 1, step)
        ]
        places = [corner for corner in corners if square is None or _contains_patch(square, *corner, side)]
        if len(places) >= MIN_PATCHES:
            break
    return side, places


def _contains_patch(square: Alignment, x: int, y: int, side: int) -> bool:
    ends = np.array([[x, y], [x + side, y], [x, y + side], [x + side, y + side]])
    inside = ends @ square.matrix[:, :2].T + square.matrix[:, 2]
    return bool((inside >= 0).all() and (inside <= square.size - 1).all())


def _synthesize_grain(noise: Spectrum, image: ImageData, region: Region) -> FloatImage | None:
    """Return noise [h, w, 3] with this spectrum over the region; None if it would be too faint to see.

    The noise is generated along the principal colors over all frequencies, each with its own spectrum."""
    if noise.variance < (MIN_DEVIATION / 2) ** 2:
        return None
    _, axes = np.linalg.eigh(noise.power.mean(0))
    powers = np.einsum("ic,rij,jc->cr", axes, noise.power, axes)  # [3, NUM_RINGS]
    white = _white_noise(_seed(image), region)
    out = np.zeros((region.y1 - region.y0, region.x1 - region.x0, 3), np.float32)
    for power, axis in zip(powers, axes.T.astype(np.float32)):
        # Project and reconstruct with the same axes: axes of equal power are arbitrary and differ between faces.
        if power.max() >= 1e-3 * powers.max():
            field = cv2.filter2D(white @ axis, -1, _filter_kernel(power))[
                KERNEL_RADIUS:-KERNEL_RADIUS, KERNEL_RADIUS:-KERNEL_RADIUS
            ]
            out += field[..., None] * axis
    return out


def _filter_kernel(power: Matrix) -> FloatImage:
    """Return the isotropic kernel [2 * KERNEL_RADIUS + 1, 2 * KERNEL_RADIUS + 1] that gives white noise of variance 1 the
    power [NUM_RINGS]."""
    f = np.fft.fftfreq(FREQUENCY_GRID)
    radius = np.hypot(f[:, None], f[None, :])
    number = np.digitize(radius, RING_EDGES) - 1
    rings = (number[..., None] == np.arange(NUM_RINGS)).reshape(-1, NUM_RINGS)
    wanted = np.maximum(power, 1e-6 * power.max())
    nodes = wanted.copy()
    for _ in range(6):  # log-linear between the rings; scaled until each ring's mean is right
        smooth = np.exp(np.interp(radius, RING_CENTERS, np.log(nodes)))
        nodes *= wanted / (smooth.ravel() @ rings / rings.sum(0))
    centered = np.fft.fftshift(np.fft.ifft2(np.sqrt(smooth)).real)
    middle = slice(FREQUENCY_GRID // 2 - KERNEL_RADIUS, FREQUENCY_GRID // 2 + KERNEL_RADIUS + 1)
    return np.ascontiguousarray(centered[middle, middle], np.float32)


def _white_noise(seed: int, region: Region) -> FloatImage:
    """Return white noise [h + 2 * KERNEL_RADIUS, w + 2 * KERNEL_RADIUS, 3] of variance 1 over the region and its margin.
    A pixel's value does not depend on the region."""
    padded = region.grown(KERNEL_RADIUS)
    blocks = padded.aligned(BLOCK_SIZE, BLOCK_SIZE)
    rows, columns = (range(one.start // BLOCK_SIZE, one.stop // BLOCK_SIZE) for one in blocks.slices)
    out = np.empty((len(rows), BLOCK_SIZE, len(columns), BLOCK_SIZE, 3), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            draw = np.random.default_rng([seed, row + 1, column + 1])  # seeds cannot be negative
            out[i, :, j] = draw.standard_normal((BLOCK_SIZE, BLOCK_SIZE, 3), np.float32)
    return out.reshape(len(rows) * BLOCK_SIZE, -1, 3)[padded.relative_to(blocks).slices]


def _seed(image: ImageData) -> int:
    """Return a seed from about 256 rows of the image's data."""
    rows = image.pixels[:: max(1, image.height // 256)]
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=8).digest(), "little")

"""Grain for restored faces: noise with the strength, the spectrum and the colors of that in the image around them.

It belongs to the pixels of the image that a face is pasted into, not to the network's crop. What the restored face has of
its own is measured in the same way and only the rest is added. The noise is a fixed field over the whole image, drawn from
the image's own data: neither the order of faces nor how they are batched changes it, and where two faces overlap they have
the same.
"""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np

from ..images.image import MAX_VALUES, FloatImage, ImageData, Region
from .align import Alignment
from .spectrum import NUM_RINGS, PATCH_SIZES, RING_CENTERS, RING_EDGES, Matrix, Spectrum, estimate_noise

MAX_PATCHES = 600  # at most so many are looked at
MIN_MARGIN = 48  # px: at least so far around a face
MIN_PATCHES = 32  # patches: where fewer fit, smaller ones are taken
MIN_DEVIATION = 0.5 / 255  # deviation: below it little is left but what rounding to 8 bits makes, and nobody sees it
BLOCK_SIZE = 128  # px of the field that are drawn at once
KERNEL_RADIUS = 15  # px that grain reaches
FREQUENCY_GRID = 64  # frequencies that its filter is computed at
MIN_WEIGHT = 0.2  # of the restored face in a pixel: below it, what blending takes away is not made good for in full


def add_grain(
    image: ImageData, alignment: Alignment, region: Region, restored: FloatImage, weight: FloatImage, amount: float
) -> None:
    """Adds the image's grain to `restored` [h, w, 3], RGB in [0, 1]: a face warped into `region` of the image.

    `weight` [h, w] in [0, 1] is how much of each pixel the face will be. Blending averages the image's noise with the
    face's and so weakens both; the grain is stronger there, so that the blend has the image's. `amount`, 0 to 1, scales
    its deviation. An image without measurable noise (below `MIN_DEVIATION`) leaves the face as it is.
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
    """[h, w]: how much stronger grain must be where a pixel is only in `weight` the face's.

    With deviation s in the image and (1 - m) s in the face, of the same noise, a blend of w has (1 - w m) s; what lacks
    in power beside s, 1 - (1 - w m)^2 = w m (2 - w m), is brought by grain of w k times its deviation at w = 1, m (2 - m).
    """
    w = np.maximum(weight, MIN_WEIGHT)
    return np.asarray(np.sqrt((2 - w * np.float32(missing)) / (w * np.float32(2 - missing))), np.float32)


def _image_noise(image: ImageData, alignment: Alignment) -> Spectrum | None:
    """The noise in the face's square and around it; without that of rounding, which the result has anyway."""
    inner = alignment.source_region(*image.size)
    grow = max(MIN_MARGIN, (inner.x1 - inner.x0) // 2, (inner.y1 - inner.y0) // 2)
    side, places = _patch_grid(image.region_with_margin(inner, grow))
    if not places:
        return None
    step = 1 / image.max_value if image.pixels.dtype in MAX_VALUES else 0.0
    patches = [image.crop_rgb(Region(x, y, x + side, y + side)) for x, y in places]
    return estimate_noise(np.stack(patches), step**2 / 12)


def _face_noise(restored: FloatImage, alignment: Alignment, region: Region) -> Spectrum:
    """The noise that a restored face has; none where it is too small to tell."""
    side, places = _patch_grid(region, alignment)
    patches = [restored[y - region.y0 :, x - region.x0 :][:side, :side] for x, y in places]
    return (estimate_noise(np.stack(patches)) if patches else None) or Spectrum.zero()


def _patch_grid(region: Region, square: Alignment | None = None) -> tuple[int, list[tuple[int, int]]]:
    """Side of patches and their corners x, y, evenly over the region, or over what of it is inside a face's square."""
    side, places = PATCH_SIZES[0], list[tuple[int, int]]()
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
    """[h, w, 3]: noise like that over the region; None where it would be too faint to see.

    Its colors are those of the noise over all frequencies together, each with its own spectrum."""
    if noise.variance < (MIN_DEVIATION / 2) ** 2:
        return None
    _, axes = np.linalg.eigh(noise.power.mean(0))
    powers = np.einsum("ic,rij,jc->cr", axes, noise.power, axes)  # [3, NUM_RINGS]
    white = _white_noise(_seed(image), region)
    out = np.zeros((region.y1 - region.y0, region.x1 - region.x0, 3), np.float32)
    for power, axis in zip(powers, axes.T.astype(np.float32)):
        # There and back with the same colors: two of equal power may be any two, and another face has others.
        if power.max() >= 1e-3 * powers.max():
            field = cv2.filter2D(white @ axis, -1, _filter_kernel(power))[
                KERNEL_RADIUS:-KERNEL_RADIUS, KERNEL_RADIUS:-KERNEL_RADIUS
            ]
            out += field[..., None] * axis
    return out


def _filter_kernel(power: Matrix) -> FloatImage:
    """[2 * KERNEL_RADIUS + 1, 2 * KERNEL_RADIUS + 1]: gives white noise of variance 1 that power [NUM_RINGS], the same in
    all directions."""
    f = np.fft.fftfreq(FREQUENCY_GRID)
    radius = np.hypot(f[:, None], f[None, :])
    number = np.digitize(radius, RING_EDGES) - 1
    rings = (number[..., None] == np.arange(NUM_RINGS)).reshape(-1, NUM_RINGS)
    wanted = np.maximum(power, 1e-6 * power.max())
    nodes = wanted.copy()
    for _ in range(6):  # in between the logarithm is linear, and the rings have on average what they should have
        smooth = np.exp(np.interp(radius, RING_CENTERS, np.log(nodes)))
        nodes *= wanted / (smooth.ravel() @ rings / rings.sum(0))
    centered = np.fft.fftshift(np.fft.ifft2(np.sqrt(smooth)).real)
    middle = slice(FREQUENCY_GRID // 2 - KERNEL_RADIUS, FREQUENCY_GRID // 2 + KERNEL_RADIUS + 1)
    return np.ascontiguousarray(centered[middle, middle], np.float32)


def _white_noise(seed: int, region: Region) -> FloatImage:
    """[h + 2 * RADIUS, w + 2 * RADIUS, 3]: white noise of variance 1 over the region and around it, the same at one place
    whatever the region."""
    y0, x0 = region.y0 - KERNEL_RADIUS, region.x0 - KERNEL_RADIUS
    y1, x1 = region.y1 + KERNEL_RADIUS, region.x1 + KERNEL_RADIUS
    rows, columns = range(y0 // BLOCK_SIZE, (y1 - 1) // BLOCK_SIZE + 1), range(x0 // BLOCK_SIZE, (x1 - 1) // BLOCK_SIZE + 1)
    out = np.empty((len(rows), BLOCK_SIZE, len(columns), BLOCK_SIZE, 3), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            draw = np.random.default_rng([seed, row + 1, column + 1])  # no seed is below 0
            out[i, :, j] = draw.standard_normal((BLOCK_SIZE, BLOCK_SIZE, 3), np.float32)
    top, left = y0 - rows[0] * BLOCK_SIZE, x0 - columns[0] * BLOCK_SIZE
    return out.reshape(len(rows) * BLOCK_SIZE, -1, 3)[top : top + y1 - y0, left : left + x1 - x0]


def _seed(image: ImageData) -> int:
    """From the image's data: of up to about 256 of its rows."""
    rows = image.pixels[:: max(1, image.height // 256)]
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=8).digest(), "little")

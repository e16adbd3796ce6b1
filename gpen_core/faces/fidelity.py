"""Fidelity: what the input still shows of a face stays the input's, and only what it lacks comes from the network.

The input crop y is a degraded picture of the face: blurred by A, with noise. The network's crop x is a sharp face that may
differ. Blurred by the same A, it should look like the input, so y - A x is what it gets wrong. Adding that to x corrects
every frequency that the input shows and keeps the others: the range-null space decomposition x + A'(y - A x) of Wang, Yu
and Zhang, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", ICLR 2023, equation 4, with an
estimated A. A face that the network got right does not change.

A is a Gaussian. It is estimated from the spectra: A x has as much power as the input has without its noise. A' is a
Gaussian as well, because other low-pass filters ring at edges. It removes the noise from y - A x: of all Gaussians it has
the least expected error (Stein's risk estimate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import LUMA, FloatImage, ImageData
from .align import Alignment
from .grain import sampled_region
from .spectrum import OPPONENT, PATCH_SIZES, RING_CENTERS, Spectrum, estimate_noise

Matrix = NDArray[np.float64]

RING_RATIO = 1.2  # ratio of the frequencies of two neighboring rings
LOWEST = 2.0  # cycles per crop: the center of the first ring; color and light below it always follow the input
MIN_CUTOFF = 3.0  # cycles per crop
CUTOFF_STEP = 1.06  # ratio of two neighboring cutoffs that are tried
# Blurred to a half in amplitude, a frequency has a quarter of its power. A network that doubles a frequency is therefore
# not taken for a blurred input.
BLURRED_POWER = 0.25
MIN_EVIDENCE = 0.5  # of the noise: if `BLURRED_POWER` of the network's power is weaker, noise hides a blur
HALF_GAIN_SIGMA = math.sqrt(math.log(2) / 2) / math.pi  # px: a Gaussian of this deviation halves 1 cycle per px
MIN_SIGMA = 4.0  # px: a wider Gaussian is computed on a reduced crop
LIGHT, COLOR = LUMA[None].astype(np.float64), OPPONENT[1:]  # axes of luminance, and of color without it
# A correction brings back some of the input's noise and JPEG blocks. Weights of their power, in this order, relative to
# the power of the network's errors that stay: on smooth skin, noise and blocks are seen first. Blocks are twice as large
# in color.
LIGHT_WEIGHTS, COLOR_WEIGHTS = (2.0, 4.0), (4.0, 8.0)
BLOCK = 8  # px: side of JPEG's blocks
TRIMMED = 0.8  # quantile of squared differences: larger ones are edges of the face, not of blocks
MIN_STEP = 1.1  # of the squared steps inside blocks: smaller steps between blocks are chance
# JPEG's error variance per variance from the steps: they are measured where the face is smooth, and errors are larger in
# its texture. Measured at qualities 20 to 95.
BLOCK_SCALE = 8.0
PATCHES_PER_SIDE = 14  # for the noise
# A small face has no flat areas, so its structure counts as coarse noise. In a square of up to `NO_FLAT_SIDE` px, no ring of
# the noise has more than `MAX_COARSENESS` times the power of `FINE_RING`. The limit grows with this power of the side.
NO_FLAT_SIDE, MAX_COARSENESS, COARSENESS_GROWTH = 128, 2.0, 4
FINE_RING = 4  # 14 / 32 cycles per pixel


@dataclass(frozen=True)
class Reliability:
    """What an input crop still shows of a face. Frequencies are in cycles per crop pixel; infinite: no limit."""

    blur: float
    """The frequency that the input shows at half its amplitude."""
    cutoff: float
    """The frequency at which half of the network's error is corrected. Above it, noise outweighs the error."""
    color_cutoff: float
    """`cutoff` for color without luminance."""


def keep_input(amount: float, image: ImageData, alignment: Alignment, crop: FloatImage, restored: FloatImage) -> FloatImage:
    """Return the restored crop with what the input still shows reliably, in the share `amount` (0 to 1).

    `crop` and `restored` are [S, S, 3] RGB in [0, 1]. `crop` is the part of `image` at `alignment`. At 0 the restored crop
    itself is returned."""
    if amount == 0:
        return restored
    found = estimate_reliability(image, alignment, crop, restored)
    missed = crop - _low_pass(restored, found.blur)
    light = np.asarray(missed @ LUMA, np.float32)[..., None]
    reliable = _low_pass(light, found.cutoff) + _low_pass(missed - light, found.color_cutoff)
    return np.asarray(np.clip(restored + np.float32(amount) * reliable, 0, 1), np.float32)


def estimate_reliability(image: ImageData, alignment: Alignment, crop: FloatImage, restored: FloatImage) -> Reliability:
    """Estimate up to which frequencies `crop` shows the face, compared with `restored`. Arguments as for `keep_input`."""
    rings = _Rings.of(crop.shape[0])
    blocks = alignment.scale**2 * block_variance(image, alignment)
    network = rings.power(restored, LIGHT)
    noise = _AddedNoise.of(crop, restored, alignment.scale).power(rings, LIGHT) + blocks
    blur = _half_amplitude(rings.power(crop, LIGHT) - noise, network, noise, rings.centers)
    if alignment.scale > 1:
        blur = min(blur, 0.5 / alignment.scale)  # the image has no higher frequencies
    expected = _low_pass(restored, blur)
    missed, added = crop - expected, _AddedNoise.of(crop, expected, alignment.scale)
    cutoffs = []
    for axes, noise_weight, block_weight in ((LIGHT, *LIGHT_WEIGHTS), (COLOR, *COLOR_WEIGHTS)):
        noise = added.power(rings, axes)
        visible = noise_weight * noise + block_weight * len(axes) * blocks
        cutoffs.append(_least_risk(rings.power(missed, axes) - noise - len(axes) * blocks, visible, rings))
    return Reliability(blur, *cutoffs)


@dataclass(frozen=True, eq=False)
class _AddedNoise:
    """The noise of a crop that a clean crop of the same face does not have."""

    spectrum: Spectrum
    ratio: float
    """Crop pixels per pixel of the spectrum."""

    @classmethod
    def of(cls, crop: FloatImage, clean: FloatImage, scale: float) -> _AddedNoise:
        """`scale` is in crop pixels per image pixel.

        Fine texture of the face counts as noise in both, so the difference is without it. Both are measured at the
        resolution of the image, because interpolated noise is too coarse for `estimate_noise`."""
        side = crop.shape[0]
        small = max(1, min(side, round(side / scale)))
        if small < PATCH_SIZES[-1]:
            return cls(Spectrum.zero(), side / small)
        own, other = (estimate_noise(_patches(_reduce(one, small))) or Spectrum.zero() for one in (crop, clean))
        return cls(own.subtract(other), side / small)

    def power(self, rings: _Rings, axes: Matrix) -> Matrix:
        """Return the power [K] in each ring, summed over `axes` [N, 3]. White noise of variance v in each crop pixel has v
        per axis."""
        power = np.einsum("ni,rij,nj->r", axes, self.spectrum.power, axes)
        growth = max(1, rings.side / self.ratio / NO_FLAT_SIDE) ** COARSENESS_GROWTH
        power = np.minimum(power, MAX_COARSENESS * growth * power[FINE_RING])
        return np.asarray(self.ratio**2 * np.interp(rings.centers * self.ratio, RING_CENTERS, power), np.float64)


def _reduce(crop: FloatImage, side: int) -> FloatImage:
    if side == crop.shape[0]:
        return crop
    return np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _patches(crop: FloatImage) -> FloatImage:
    """Return up to about `PATCHES_PER_SIDE`**2 patches [N, P, P, 3], evenly over the crop."""
    side = crop.shape[0]
    large, small = PATCH_SIZES
    size = large if side >= 2 * large else small
    step = max(size // 4, math.ceil((side - size) / PATCHES_PER_SIDE))
    windows = np.lib.stride_tricks.sliding_window_view(crop, (size, size), (0, 1))[::step, ::step]  # [h, w, 3, P, P]
    return np.ascontiguousarray(windows.transpose(0, 1, 3, 4, 2).reshape(-1, size, size, 3))


def block_variance(image: ImageData, alignment: Alignment) -> float:
    """Return the error variance of JPEG's 8 x 8 blocks in and around a face, from the steps between them.

    Errors of different blocks are independent, so they add to the difference of two pixels with a block's edge between
    them. 0 for images that were resized after they were compressed: their blocks have other sides."""
    luma = image.crop_rgb(sampled_region(image, alignment)) @ LUMA
    excess = 0.0
    for steps in (np.diff(luma, axis=1), np.diff(luma, axis=0).T):
        if steps.shape[1] < BLOCK:
            return 0.0
        means = [_trimmed_mean(np.square(steps[:, phase::BLOCK])) for phase in range(BLOCK)]
        excess += max(0.0, max(means) - MIN_STEP * float(np.median(means)))
    return BLOCK_SCALE * excess / 4  # two directions, and each step has the errors of two pixels


def _trimmed_mean(values: FloatImage) -> float:
    return float(values[values <= np.quantile(values, TRIMMED)].mean())


@dataclass(frozen=True, eq=False)
class _Rings:
    """Frequency rings of a square crop."""

    centers: Matrix
    """[K] in cycles per pixel, ascending."""
    numbers: NDArray[np.intp]
    """[S * (S // 2 + 1)]: the ring of each frequency of the half plane, from 1; others are outside."""
    counts: Matrix
    """[K]: frequencies in each ring."""
    window: FloatImage
    """[S, S]: a bell whose squares have the sum 1."""

    @classmethod
    def of(cls, side: int) -> _Rings:
        count = max(1, math.floor(math.log(side / 2 / LOWEST) / math.log(RING_RATIO)))
        edges = LOWEST / side * RING_RATIO ** (np.arange(count + 1) - 0.5)
        radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]).ravel()
        numbers = np.digitize(radius, edges)
        bell = np.outer(*[np.hanning(side + 2)[1:-1]] * 2)
        counts = np.bincount(numbers, minlength=count + 2)[1:-1]
        centers = np.sqrt(edges[1:] * edges[:-1])
        return cls(centers, numbers, counts.astype(np.float64), (bell / np.sqrt((bell**2).sum())).astype(np.float32))

    @property
    def side(self) -> int:
        return len(self.window)

    def power(self, crop: FloatImage, axes: Matrix) -> Matrix:
        """Return the power [K] of a crop in each ring, summed over `axes` [N, 3]."""
        values = (crop @ axes.T.astype(np.float32)).transpose(2, 0, 1)  # [N, S, S]
        waves = np.fft.rfft2((values - values.mean((1, 2), keepdims=True)) * self.window)
        energy = (np.abs(waves) ** 2).sum(0).ravel()
        return np.asarray(np.bincount(self.numbers, energy, len(self.counts) + 2)[1:-1] / self.counts)


def _half_amplitude(signal: Matrix, network: Matrix, noise: Matrix, frequencies: Matrix) -> float:
    """Return the first frequency at which the input shows half of the network's amplitude; infinite if there is none."""
    visible = network * BLURRED_POWER > noise * MIN_EVIDENCE
    ratio = np.maximum(signal, 0) / np.maximum(network, 1e-12)
    for n in range(1, len(frequencies)):
        if not visible[n]:
            break
        if ratio[n] < BLURRED_POWER:
            low, high = np.log(np.maximum(ratio[[n, n - 1]], BLURRED_POWER / 100))
            part = np.clip((high - math.log(BLURRED_POWER)) / max(high - low, 1e-6), 0, 1)
            return float(frequencies[n - 1] * (frequencies[n] / frequencies[n - 1]) ** part)
    return math.inf


def _least_risk(missed: Matrix, visible: Matrix, rings: _Rings) -> float:
    """Return the cutoff with the least expected error: `missed` [K] that is not corrected, and noise `visible` [K] that
    comes back."""
    count = math.ceil(math.log(rings.side / MIN_CUTOFF) / math.log(CUTOFF_STEP))
    cutoffs = np.append(MIN_CUTOFF / rings.side * CUTOFF_STEP ** np.arange(count), math.inf)
    gains = 0.5 ** ((rings.centers / cutoffs[:, None]) ** 2)  # [cutoffs, K]
    risk = ((1 - gains) ** 2 * missed + gains**2 * visible) @ rings.counts
    return float(cutoffs[int(np.argmin(risk))])


def _low_pass(crop: FloatImage, frequency: float) -> FloatImage:
    """Return the crop after a Gaussian that halves this frequency in cycles per pixel."""
    if frequency == math.inf:
        return crop
    sigma, side, factor = HALF_GAIN_SIGMA / frequency, crop.shape[0], 1
    while sigma / factor >= 2 * MIN_SIGMA and side % (2 * factor) == 0:
        factor *= 2
    small = crop if factor == 1 else cv2.resize(crop, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REFLECT)
    if factor > 1:
        blurred = cv2.resize(blurred, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(blurred, np.float32).reshape(crop.shape)  # OpenCV drops a single channel

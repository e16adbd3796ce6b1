"""Noise estimation: strength, spectrum and colors of an image's noise, separated from its structure.

The estimator uses small patches. It subtracts the smooth shading of each and splits the rest into frequency rings. If a
patch contains only noise, its energy in each ring is chi-squared around the noise level; structure only adds energy.
A patch counts for one ring if it looks like noise in all *other* rings, so that the choice does not bias the measurement.
The 30 % quantile of these patches' energies gives the noise level.

After Liu, Tanaka and Okutomi, "Single-Image Noise Level Estimation for Blind Denoising", IEEE TIP 22(12), 2013 (weakly
textured patches, chosen by their energy's distribution in alternation with the level), and Ponomarenko et al., "An
automatic approach to lossy compression of AVIRIS images", IGARSS 2007 (patches chosen by frequencies other than the
measured ones).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage

Matrix = NDArray[np.float64]

MIN_PATCHES = 8  # patches for an estimate
RING_EDGES = (
    np.array([1.5, 3, 5, 8, 12, 16, 23]) / 32
)  # edges of the rings in cycles per pixel; the corner of the plane is at 0.71
RING_CENTERS = (RING_EDGES[1:] + RING_EDGES[:-1]) / 2
NUM_RINGS = len(RING_CENTERS)
# Degrees of freedom of each ring's energy, by patch side in px (measured with white noise).
DEGREES_OF_FREEDOM = {32: (8.0, 16.7, 42.7, 78.4, 115.0, 70.0), 16: (4.6, 7.0, 10.9, 24.8, 33.5, 22.3)}
PATCH_SIZES = tuple(DEGREES_OF_FREEDOM)
# Luminance and two color differences, orthonormal: noise of equal strength in R, G and B is equal in all three.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
MAX_CLIPPED = 0.1  # of a patch's values: beyond it, clipping to black or white has cut off the noise
NEAR_BLACK, NEAR_WHITE = 0.5 / 255, 254.5 / 255
LEVEL_QUANTILE = 0.3  # quantile that gives the level; its z value is LOWER_Z
LOWER_Z, TENTH_Z, UPPER_Z = -0.5244, -1.2816, 1.645
MAX_ITERATIONS = 12
# Maximum amplitude of the two lowest rings relative to a Gaussian through the two rings above. Grain is hardly coarser,
# even enlarged, blurred or compressed. The structure that remains in the flattest patches is.
SLACK = {1: 1.25, 0: 1.1}
MIN_POWER = (0.1 / 255) ** 2  # lower bound for a ring's power
CHANNEL_PAIRS = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Noise power per frequency ring, as covariances of R, G and B for values in [0, 1]."""

    power: Matrix
    """[NUM_RINGS, 3, 3]; white noise of variance v, independent in each channel, has v times the identity in each ring."""

    @classmethod
    def zero(cls) -> Spectrum:
        return cls(np.zeros((NUM_RINGS, 3, 3)))

    @property
    def variance(self) -> float:
        """Variance of one pixel, the mean of the three channels."""
        return float(np.trace(self.power, axis1=1, axis2=2) @ _ring_areas()) / 3

    def subtract(self, other: Spectrum) -> Spectrum:
        """Return this noise minus the other; never negative."""
        values, vectors = np.linalg.eigh(self.power - other.power)
        return Spectrum((vectors * np.maximum(values, 0)[:, None, :]) @ vectors.transpose(0, 2, 1))


def estimate_noise(patches: FloatImage, rounding: float = 0.0) -> Spectrum | None:
    """Return the noise of patches [N, P, P, 3] (RGB in [0, 1], P one of `PATCH_SIZES`; they may overlap).

    `rounding` is the variance that rounding has added to them. Returns None if fewer than `MIN_PATCHES` are neither black
    nor white."""
    cut = (patches <= NEAR_BLACK) | (patches >= NEAR_WHITE)
    patches = patches[cut.mean((1, 2, 3)) < MAX_CLIPPED]
    if len(patches) < MIN_PATCHES:
        return None
    energy, curvature = ring_energies(patches)
    if patches.shape[1] < PATCH_SIZES[0]:
        curvature = None  # in a small patch, curvature looks like the first ring
    freedom = _window(patches.shape[1]).degrees_of_freedom
    own = energy[:, :, :3]  # [N, NUM_RINGS, 3]
    level = np.quantile(own, 0.1, axis=0) / _chi2_quantile(freedom, TENTH_Z)
    chosen: list[NDArray[np.intp]] = []
    for _ in range(MAX_ITERATIONS):
        chosen = _select_patches(own, level, freedom, curvature)
        lower = np.stack([np.quantile(own[these, ring], LEVEL_QUANTILE, axis=0) for ring, these in enumerate(chosen)])
        before, level = level, np.sqrt(level * lower / _chi2_quantile(freedom, LOWER_Z))
        if np.allclose(level, before, rtol=0.01):
            break
    mean = np.stack([energy[these, ring].mean(0) for ring, these in enumerate(chosen)])  # [NUM_RINGS, 6]
    return Spectrum(_covariances(_limit_structure(np.maximum(level - rounding, 0)), mean))


def _select_patches(own: Matrix, level: Matrix, freedom: Matrix, curvature: Matrix | None) -> list[NDArray[np.intp]]:
    """Return for each ring the patches that look like noise in all other rings, or the most noise-like ones."""
    beyond = (own / np.maximum(level * _chi2_quantile(freedom, UPPER_Z), 1e-16)).max(2)  # [N, NUM_RINGS]
    fewest = max(MIN_PATCHES, len(own) // 100)
    chosen = []
    for ring in range(NUM_RINGS):
        others = np.delete(beyond, ring, axis=1).max(1)
        these = np.flatnonzero(others < 1)
        if len(these) < fewest:
            these = np.argsort(others, kind="stable")[:fewest]
        if ring == 0 and curvature is not None:  # below this ring there is only shading: use the half with the least
            these = these[np.argsort(curvature[these], kind="stable")[: max(fewest, len(these) // 2)]]
        chosen.append(these)
    return chosen


def _limit_structure(level: Matrix) -> Matrix:
    """Return the level [NUM_RINGS, 3] with the lowest rings limited by `SLACK`."""
    square = RING_CENTERS**2
    for ring, slack in SLACK.items():
        above, next_above = np.maximum(level[ring + 1], MIN_POWER), np.maximum(level[ring + 2], MIN_POWER)
        steps = (square[ring + 1] - square[ring]) / (square[ring + 2] - square[ring + 1])
        level[ring] = np.minimum(level[ring], slack**2 * above * np.maximum(above / next_above, 1) ** steps)
    return level


def _covariances(level: Matrix, mean: Matrix) -> Matrix:
    """Return covariances [NUM_RINGS, 3, 3] of R, G and B from the opponent colors' levels and mean correlations."""
    power = np.empty((NUM_RINGS, 3, 3))
    for n, (i, j) in enumerate(CHANNEL_PAIRS):
        scale = np.sqrt(level[:, i] * level[:, j])
        spread = np.sqrt(mean[:, i] * mean[:, j])
        power[:, i, j] = power[:, j, i] = np.divide(mean[:, n], spread, out=np.zeros(NUM_RINGS), where=spread > 0) * scale
    return np.asarray(OPPONENT.T @ power @ OPPONENT)


@dataclass(frozen=True, eq=False)
class _Window:
    """The window for patches of P x P px: a bell with shading removed, and the frequency rings."""

    bell: FloatImage
    """[P * P]"""
    shading: FloatImage
    """[P * P, 6]: windowed constant, linear and quadratic terms, orthonormal; the last three are quadratic."""
    rings: FloatImage
    """[P * (P // 2 + 1) * 2, NUM_RINGS]: maps the squared real and imaginary parts of the half plane to the variance of
    white noise."""
    degrees_of_freedom: Matrix
    """[NUM_RINGS, 1], see `DEGREES_OF_FREEDOM`."""


@lru_cache(maxsize=len(PATCH_SIZES))
def _window(side: int) -> _Window:
    bell = np.outer(*[np.hanning(side + 2)[1:-1]] * 2).ravel()
    x, y = (np.mgrid[:side, :side] / (side - 1) - 0.5).reshape(2, -1)
    shading, _ = np.linalg.qr(np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=1) * bell[:, None])
    # The remaining noise has the covariance (1 - QQ') B^2 (1 - QQ'). This is its expected energy at each frequency.
    planes = [_half_spectrum(columns.T.reshape(-1, side, side)) for columns in (shading, shading * bell[:, None] ** 2)]
    inner = (shading * bell[:, None] ** 2).T @ shading
    expected = (bell**2).sum() - 2 * (planes[1] * planes[0].conj()).real.sum(0)
    expected = expected + np.einsum("ik,ij,jk->k", planes[0].conj(), inner, planes[0]).real
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]).ravel()
    number = np.digitize(radius, RING_EDGES) - 1
    inside = (number[:, None] == np.arange(NUM_RINGS)).astype(np.float64)
    rings = np.repeat(inside / (inside.T @ expected), 2, axis=0)
    freedom = np.array(DEGREES_OF_FREEDOM[side])[:, None]
    return _Window(bell.astype(np.float32), shading.astype(np.float32), rings.astype(np.float32), freedom)


def _half_spectrum(images: NDArray[Any]) -> NDArray[Any]:
    """Return the half plane of frequencies [N, P * (P // 2 + 1)], complex, of images [N, P, P]."""
    return np.fft.rfft2(images).reshape(len(images), -1)


def ring_energies(patches: FloatImage, batch_size: int = 64) -> tuple[Matrix, Matrix | None]:
    """Return the opponent colors' (co)variances per ring [N, NUM_RINGS, 6] (`CHANNEL_PAIRS`), and each patch's curvature
    [N]."""
    side = patches.shape[1]
    window = _window(side)
    energy, curvature = np.empty((len(patches), NUM_RINGS, len(CHANNEL_PAIRS))), np.empty(len(patches))
    for start in range(0, len(patches), batch_size):
        some = patches[start : start + batch_size]
        windowed = (some.reshape(len(some), -1, 3) @ OPPONENT.T.astype(np.float32)).transpose(0, 2, 1) * window.bell
        shade = windowed @ window.shading  # [n, 3, 6]
        waves = _half_spectrum((windowed - shade @ window.shading.T).reshape(-1, side, side)).astype(
            np.complex64, copy=False
        )
        parts = waves.view(np.float32).reshape(len(some), 3, -1)  # real and imaginary parts interleaved
        for n, (i, j) in enumerate(CHANNEL_PAIRS):
            energy[start : start + batch_size, :, n] = (parts[:, i] * parts[:, j]) @ window.rings
        curvature[start : start + batch_size] = (shade[:, :, 3:] ** 2).sum((1, 2))
    return energy, curvature


@lru_cache(maxsize=1)
def _ring_areas() -> Matrix:
    """Return the share [NUM_RINGS] of all frequencies in each ring; the first ring includes those below it."""
    f = np.fft.fftfreq(256)
    number = np.digitize(np.hypot(f[:, None], f[None, :]), RING_EDGES[1:-1])
    return np.asarray(np.bincount(number.ravel(), minlength=NUM_RINGS) / number.size)


def _chi2_quantile(freedom: Matrix, z: float) -> Matrix:
    """Return the chi-squared quantile at the normal score `z`, relative to the mean (Wilson and Hilferty, PNAS 17, 1931)."""
    part = 2 / (9 * freedom)
    return np.asarray((1 - part + z * np.sqrt(part)) ** 3)

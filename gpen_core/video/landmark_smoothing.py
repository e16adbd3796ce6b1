"""Smooths a track's landmarks over time by a two-sided mean in coordinates that move with the face, without lag.

If the image gives the face's motion, only two things remain in these coordinates: the detector's jitter and motion within
the face, such as turning or opening the mouth. The mean is as wide as possible without smoothing the latter. A wider window
is used as long as its mean agrees with those of all narrower ones within the jitter. This is Lepski's rule, as the
intersection of confidence intervals (Goldenshluger and Nemirovski, Math. Methods of Statistics 6(2), 1997).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faces.align import Matrix, fit_similarity

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]

WIDTHS = (0.04, 0.08, 0.16, 0.32, 0.64, 1.28)  # seconds; standard deviations of the Gaussian
TRUNCATE = 3.0  # standard deviations
PLAIN_WIDTH = 0.08  # seconds; if the image does not give the motion, it comes from landmarks smoothed by this width
UNKNOWN_MOTION_WEIGHT = 0.5  # factor on a frame's weight for each pair of frames without a motion from the image
JUMP_COUNT = 1000.0  # a jump counts as so many of these pairs, which leaves no weight
JUMP_DISTANCE = 0.15  # of the face; landmarks further from their smooth path are a jump
MIN_JITTER = 0.012  # of the face; a detector's landmarks can be off by this for many frames in a row
CONFIDENCE_SIGMAS = 1.0  # standard deviations; a head that turns within 0.2 s lags by 5 % of the face, and by 7 % with 2
INDEX_WIDTH = 0.1  # seconds; smooths the changes of the width
RAYLEIGH_MEDIAN = 1.1774  # median length of a 2D normal vector, in standard deviations of one coordinate


def smooth_landmarks(
    landmarks: FloatArray, boxes: FloatArray, motions: Sequence[Matrix | None], rate: float
) -> tuple[FloatArray, FloatArray]:
    """Smooth the landmarks [n, 5, 2] and boxes [n, 4] of a track's frames, and fill gaps.

    The inputs are nan in frames without a detection. `motions`: the n - 1 motions [2, 3] of the face from each frame to the
    next, None where the image does not give it. Within a gap, the image must give it. `rate`: frames per second."""
    z = np.concatenate((_to_complex(landmarks), _to_complex(boxes.reshape(-1, 2, 2)).mean(1, keepdims=True)), 1)  # [n, 6]
    sides = np.stack((boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]), 1)  # [n, 2]
    face = np.sqrt(np.maximum(sides, 0).prod(1))
    scale, shift, passed = _accumulate_motion(z, face, motions, rate)
    kernel = _Kernel(_is_detected(z), passed, rate)
    still = (z - shift[:, None]) / scale[:, None]
    mean = _adaptive_mean(kernel, still, float(np.nanmedian(face / np.abs(scale))))
    back = mean * scale[:, None] + shift[:, None]
    half = kernel.mean(sides / np.abs(scale)[:, None], WIDTHS[-1])[0] * np.abs(scale)[:, None] / 2
    middle = _to_real(back[:, 5])
    return _to_real(back[:, :5]), np.hstack((middle - half, middle + half))


def _accumulate_motion(
    z: ComplexArray, face: FloatArray, motions: Sequence[Matrix | None], rate: float
) -> tuple[ComplexArray, ComplexArray, FloatArray]:
    """Return for each frame the scale and shift from the track's coordinates (those of its first frame) to the frame's.

    The third result is the number of pairs of frames so far without a motion from the image."""
    a, b, passed = np.ones(len(z), complex), np.zeros(len(z), complex), np.zeros(len(z))
    plain: ComplexArray | None = None
    for t, motion in enumerate(motions):
        passes = 0.0
        if motion is None:
            plain = _fit_lines(z, rate) if plain is None else plain
            motion, passes = _landmark_motion(z, plain, face, t)
        turn = complex(motion[0, 0], motion[1, 0])
        a[t + 1] = turn * a[t]
        b[t + 1] = turn * b[t] + complex(motion[0, 2], motion[1, 2])
        passed[t + 1] = passed[t] + passes
    return a, b, passed


def _landmark_motion(z: ComplexArray, plain: ComplexArray, face: FloatArray, t: int) -> tuple[Matrix, float]:
    """Return the motion of the landmarks from frame t to the next, and its count of pairs, see `JUMP_COUNT`."""
    jumps = np.abs(z[t : t + 2] - plain[t : t + 2]).mean(1) > JUMP_DISTANCE * face[t : t + 2]
    if jumps.any() or not np.isfinite(plain[t : t + 2]).all():
        motion, passes = fit_similarity(_to_real(z[t, :5]), _to_real(z[t + 1, :5])), JUMP_COUNT
    else:
        motion, passes = fit_similarity(_to_real(plain[t, :5]), _to_real(plain[t + 1, :5])), 1.0
    return motion, passes


def _fit_lines(z: ComplexArray, rate: float) -> ComplexArray:
    """Return [n, 6]: straight lines fitted around each frame, without the image."""
    kernel = _Kernel(_is_detected(z), np.zeros(len(z)), rate)
    time = np.arange(len(z), dtype=float)[:, None]
    means = [kernel.mean(v, PLAIN_WIDTH)[0] for v in (time, time**2, z, time * z)]
    t, tt, x, tx = means
    variance = tt - t**2
    slope = np.divide(tx - t * x, variance, out=np.zeros_like(x), where=variance > 1e-6)
    return np.asarray(x + slope * (time - t), complex)


@dataclass(frozen=True, eq=False)
class _Kernel:
    """Averages over frames with a detection."""

    detected: NDArray[np.bool_]
    unknown_motions: FloatArray
    rate: float

    def mean(self, values: NDArray[Any], width: float) -> tuple[NDArray[Any], FloatArray]:
        """Average `values` [n, m] over frames with a Gaussian of `width` seconds.

        The second result [n] is the remaining share of the variance of independent noise. Both are nan in frames without
        a detection in reach."""
        n = len(values)
        sigma = max(width * self.rate, 1e-3)
        known = np.where(self.detected[:, None], values, 0)
        total, weights, squares = np.zeros_like(known), np.zeros(n), np.zeros(n)
        reach = min(int(np.ceil(TRUNCATE * sigma)), n - 1)
        for k in range(-reach, reach + 1):
            target, source = slice(max(0, -k), n - max(0, k)), slice(max(0, k), n + min(0, k))
            weight = np.exp(-0.5 * (k / sigma) ** 2) * self.detected[source]
            weight = weight * UNKNOWN_MOTION_WEIGHT ** np.abs(self.unknown_motions[source] - self.unknown_motions[target])
            total[target] += weight[:, None] * known[source]
            weights[target] += weight
            squares[target] += weight**2
        good = weights > 1e-9
        mean, left = np.full_like(total, np.nan), np.full(n, np.nan)
        mean[good], left[good] = total[good] / weights[good, None], squares[good] / weights[good] ** 2
        return mean, left


def _adaptive_mean(kernel: _Kernel, still: ComplexArray, face: float) -> ComplexArray:
    """Return [n, 6]: each frame's mean over the widest window that does not smooth the landmarks' own motion."""
    noise = max(_estimate_noise(kernel, still), MIN_JITTER * face)
    means, left = zip(*(kernel.mean(still, width) for width in WIDTHS))
    best = np.full(len(still), len(WIDTHS) - 1.0)
    for k in range(len(WIDTHS) - 1, 0, -1):
        for j in range(k):
            off = np.sqrt((np.abs(means[k] - means[j])[:, :5] ** 2).mean(1))
            allowed = CONFIDENCE_SIGMAS * noise * (np.sqrt(left[k]) + np.sqrt(left[j])) + noise
            best[off > allowed] = np.minimum(best[off > allowed], k - 1)
    uniform = _Kernel(np.ones(len(still), bool), kernel.unknown_motions, kernel.rate)
    index = uniform.mean(best[:, None], INDEX_WIDTH)[0][:, 0]
    return _interpolate(np.stack(means), index)


def _interpolate(means: ComplexArray, index: FloatArray) -> ComplexArray:
    """Interpolate the means [k, n, 6] at the fractional index [n]. Unknown means are replaced by the next wider ones."""
    for k in range(len(means) - 1, 0, -1):
        means[k - 1] = np.where(np.isfinite(means[k - 1]), means[k - 1], means[k])
    low = np.clip(np.floor(index).astype(int), 0, len(means) - 2)
    share = (index - low)[:, None]
    frames = np.arange(means.shape[1])
    return np.asarray((1 - share) * means[low, frames] + share * means[low + 1, frames], complex)


def _estimate_noise(kernel: _Kernel, still: ComplexArray) -> float:
    """Estimate the standard deviation of a coordinate from the deviation of three consecutive frames from a line.

    0 without three such frames."""
    if len(still) < 3:
        return 0.0
    bent = np.abs(still[2:] - 2 * still[1:-1] + still[:-2])[:, :5]
    plain = np.isfinite(bent).all(1) & (kernel.unknown_motions[2:] == kernel.unknown_motions[:-2])
    return float(np.median(bent[plain])) / RAYLEIGH_MEDIAN / np.sqrt(6) if plain.any() else 0.0


def _is_detected(z: ComplexArray) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(z).all(axis=1))


def _to_complex(points: FloatArray) -> ComplexArray:
    return np.asarray(points[..., 0] + 1j * points[..., 1], complex)


def _to_real(z: ComplexArray) -> FloatArray:
    return np.stack((z.real, z.imag), -1)

"""Head pose from five landmarks, and how well they fit the views of a mean head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .face import Landmarks

# Eye centers (midpoint of each eye's two corners), nose tip and mouth corners of a mean adult head in cm: x to the
# viewer's right, y up, z toward the viewer.
# Source: vertices 33, 133, 362, 263, 1, 61 and 291 of MediaPipe's canonical face model (canonical_face_model.obj, Apache
# License 2.0), which Google fitted to scans.
MEAN_HEAD = np.array(
    [
        [-3.1511, 2.6246, 3.4657],
        [3.1511, 2.6246, 3.4657],
        [0.0, -1.1269, 7.4756],
        [-2.4562, -4.3426, 4.2839],
        [2.4562, -4.3426, 4.2839],
    ]
)
MAX_YAW, MAX_PITCH, ANGLE_STEP = 90, 45, 5  # degrees
# Of 173 faces in photos, detected by RetinaFace mobile0.25 upright and at its best scale, half have a residual below 0.07
# and none above 0.21. Landmarks of upside-down faces have 0.4 (docs/detection-benchmarks.md).
PLAUSIBLE_RESIDUAL = 0.25
MAX_POSE_RESIDUAL = 0.35
"""Above this residual the landmarks are not those of a head."""
MAX_UPRIGHT_ROLL = 60.0  # degrees: beyond it, a detector trained on upright faces is unreliable


@dataclass(frozen=True, eq=False)
class HeadPose:
    """The poses of N faces; each array is [N], angles are in degrees."""

    residual: NDArray[np.float64]
    """Square root of the fraction of the landmarks' variance that the nearest view does not explain, 0 to 1. It is 1 if
    landmarks are not finite or all equal."""
    yaw: NDArray[np.float64]
    pitch: NDArray[np.float64]
    roll: NDArray[np.float64]
    """-180 to 180, clockwise as the viewer sees it."""

    @property
    def plausible(self) -> NDArray[np.bool_]:
        """[N]: whether the landmarks are those of a head that is upright within `MAX_UPRIGHT_ROLL`."""
        return (self.residual <= PLAUSIBLE_RESIDUAL) & (np.abs(self.roll) <= MAX_UPRIGHT_ROLL)


def estimate_pose(landmarks: NDArray[np.floating] | Landmarks) -> HeadPose:
    """Return the nearest views of the mean head for landmarks [N, 5, 2] in pixels (y down).

    The views are scaled orthographic projections with yaw to 90 degrees (profiles) and pitch to 45, in steps of 5. Roll,
    scale and position are free; mirroring is not allowed. The fit is one complex product per view (Umeyama, IEEE PAMI
    13(4), 1991, in two dimensions)."""
    views, angles = _views()
    points = np.asarray(landmarks, np.float64).reshape(-1, 5, 2)
    points = np.where(np.isfinite(points).all(axis=(1, 2), keepdims=True), points, 0)
    z = points[..., 0] + 1j * points[..., 1]
    z = z - z.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(z, axis=1, keepdims=True)
    z = np.divide(z, norm, out=np.zeros_like(z), where=norm > 0)
    match = z @ views.conj().T  # [N, views]
    best = np.abs(match).argmax(axis=1)
    factor = match[np.arange(len(z)), best]
    residual = np.sqrt(np.clip(1 - np.abs(factor) ** 2, 0, 1))
    return HeadPose(residual, angles[best, 0], angles[best, 1], np.degrees(np.angle(factor)))


@lru_cache(maxsize=1)
def _views() -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Return centered projections [V, 5] of unit norm (y down), and their yaw and pitch [V, 2]."""
    steps = (np.arange(-limit, limit + 1, ANGLE_STEP) for limit in (MAX_YAW, MAX_PITCH))
    angles = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    yaw, pitch = np.radians(angles).T
    x, y, z = (MEAN_HEAD - MEAN_HEAD.mean(0)).T[:, None, :]  # each [1, 5]
    sideways = x * np.cos(yaw)[:, None] + z * np.sin(yaw)[:, None]
    forward = z * np.cos(yaw)[:, None] - x * np.sin(yaw)[:, None]
    up = y * np.cos(pitch)[:, None] - forward * np.sin(pitch)[:, None]
    views = sideways - 1j * up
    return views / np.linalg.norm(views, axis=1, keepdims=True), angles

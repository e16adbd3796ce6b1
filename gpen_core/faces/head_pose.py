"""What five landmarks can look like: the views of a mean head, and how far landmarks are from all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .face import Landmarks

# Centers of the eyes (the middle of each eye's two corners), tip of the nose and corners of the mouth of a mean adult
# head, in cm: x to the viewer's right, y up, z toward the viewer. From the vertices 33, 133, 362, 263, 1, 61 and 291 of
# MediaPipe's canonical face model (canonical_face_model.obj, Apache License 2.0), which Google fitted to scans.
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
# Of 173 faces of photographs, seen by RetinaFace mobile0.25 upright and at its best scale, half have a residual of 0.07,
# none over 0.21; landmarks of faces that are upside down have 0.4 (docs/detection.md).
PLAUSIBLE_RESIDUAL = 0.25
MAX_POSE_RESIDUAL = 0.35
"""Beyond it, no head looks like this."""
MAX_UPRIGHT_ROLL = 60.0  # degrees: from here on a detector that was trained on upright faces is not to be believed


@dataclass(frozen=True, eq=False)
class HeadPose:
    """How N faces are turned; each array is [N], angles in degrees."""

    residual: NDArray[np.float64]
    """Root of the share of the landmarks' variance that the nearest view of the head leaves unexplained, 0 to 1; 1 where
    they are not finite or all the same."""
    yaw: NDArray[np.float64]
    pitch: NDArray[np.float64]
    roll: NDArray[np.float64]
    """-180 to 180, clockwise as the viewer sees it."""

    @property
    def plausible(self) -> NDArray[np.bool_]:
        """[N]: landmarks of a head that is nearly upright, by `MAX_UPRIGHT_ROLL`."""
        return (self.residual <= PLAUSIBLE_RESIDUAL) & (np.abs(self.roll) <= MAX_UPRIGHT_ROLL)


def estimate_pose(landmarks: NDArray[np.floating] | Landmarks) -> HeadPose:
    """[N, 5, 2] landmarks in pixels, y down -> the views of the mean head that are nearest to them.

    The views are scaled orthographic projections with every yaw to 90 degrees and pitch to 45 in steps of 5, so profiles
    are among them; roll, scale and place are free, mirroring is not. The fit is one complex product per view (Umeyama,
    IEEE PAMI 13(4), 1991, in two dimensions)."""
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
    """[V, 5] projections of unit norm around their center, y down, and [V, 2] yaw and pitch."""
    steps = (np.arange(-limit, limit + 1, ANGLE_STEP) for limit in (MAX_YAW, MAX_PITCH))
    angles = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    yaw, pitch = np.radians(angles).T
    x, y, z = (MEAN_HEAD - MEAN_HEAD.mean(0)).T[:, None, :]  # each [1, 5]
    sideways = x * np.cos(yaw)[:, None] + z * np.sin(yaw)[:, None]
    forward = z * np.cos(yaw)[:, None] - x * np.sin(yaw)[:, None]
    up = y * np.cos(pitch)[:, None] - forward * np.sin(pitch)[:, None]
    views = sideways - 1j * up
    return views / np.linalg.norm(views, axis=1, keepdims=True), angles

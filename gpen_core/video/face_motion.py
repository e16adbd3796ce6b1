"""Measures the motion of a face from one frame to the next in the image itself.

Corners of the face are tracked forward and backward (Lucas and Kanade, IJCAI 1981, in pyramids; Kalal et al., ICPR 2010,
for the backward pass), and a similarity is fitted to those that agree. Dozens of points with an error of a twentieth of a
pixel are far more precise than the detector's five landmarks, which jitter by a hundredth of the face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..faces.align import Alignment, Matrix, fit_similarity, invert_affine
from ..faces.face import Box
from ..faces.warp import warp
from ..images.image import FLOAT_DTYPES, FloatImage, ImageData
from .frame_image import FrameImage

GrayImage = NDArray[Any]
"""[H, W] in the image's own type."""
Points = NDArray[np.float64]

FACE_SIZE = 128  # px: the longer side of the box in the patch
PATCH_SIZE = 208  # px
MAX_CORNERS = 80
MIN_DISTANCE = 5  # px
WINDOW_SIZE = (19, 19)
PYRAMID_LEVELS, REFINE_LEVELS = 3, 1
CONVERGED_STEP = 0.8  # px; a smaller step ends the search
BLUR_SIGMA = 1.0  # px, against noise
MAX_FORWARD_BACKWARD_ERROR = 1.0  # px between a point and its forward and backward track
MIN_POINTS = 10  # points
MIN_TRACKED_SHARE = 0.4  # of the corners
MIN_SPREAD = 0.15  # of the face: root mean square distance of the points from their center
OUTLIER_SIGMAS = 2.5  # standard deviations
MIN_SIGMA = 0.05  # px; no point is more precise
MAX_MOTION_SIGMA = 2.5  # px of the patch
MAX_ZOOM = 1.25
MAX_ROTATION = 25.0  # degrees
MIN_CORRELATION = 0.5
FACE_CORNERS = (PATCH_SIZE - 1) / 2 + np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]) * FACE_SIZE / 2
MAX_STEP = float(PATCH_SIZE)
IDENTITY: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Motion:
    """The similarity motion of a face between two consecutive frames."""

    matrix: Matrix
    """2x3, pixels of the first frame -> pixels of the second."""
    correlation: float
    """Correlation of the face in the first frame with the face in the second, moved back; at most 1."""


def to_gray(image: ImageData) -> GrayImage:
    """Return the image's luma [H, W] in its own type, or in float32 for float16."""
    if isinstance(image, FrameImage) and image.gray is not None:
        return image.gray
    pixels = image.pixels
    if pixels.dtype in FLOAT_DTYPES:
        pixels = pixels.astype(np.float32, copy=False)
    if pixels.shape[2] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def track_motion(before: GrayImage, after: GrayImage, box: Box, guess: Matrix = IDENTITY) -> Motion | None:
    """Return the motion of the face in `box` of `before`, or None if it cannot be measured reliably.

    The search begins at `guess` [2, 3], which may be wrong by about a third of the face."""
    to_patch = _patch_matrix(box)
    one = _normalize(sample_patch(before, to_patch, PATCH_SIZE))
    if one is None:
        return None
    corners = _corners(one, _visible_bounds(to_patch, before))
    motion, step, agreement = guess, MAX_STEP, 0.0
    for levels in (PYRAMID_LEVELS, REFINE_LEVELS):  # the remaining motion shrinks, and with it the bias of the search
        if step < CONVERGED_STEP:
            break
        from_after = _compose(to_patch, invert_affine(motion))
        two = _normalize(sample_patch(after, from_after, PATCH_SIZE))
        if two is None:
            return None
        matrix = _fit_motion(*_track_points(one, two, corners, _visible_bounds(from_after, after), levels))
        if matrix is None:
            return None
        motion = _compose(_compose(invert_affine(from_after), matrix), to_patch)
        step, agreement = (
            float(np.abs(transform_points(matrix, FACE_CORNERS) - FACE_CORNERS).max()),
            _correlate(one, two, matrix),
        )
    return Motion(motion, agreement) if agreement >= MIN_CORRELATION else None


def sample_patch(image: GrayImage, matrix: Matrix, size: int) -> FloatImage | None:
    """Return the patch [size, size] float32 that `matrix` maps from the image; None if it is entirely outside."""
    height, width = image.shape
    place = Alignment(matrix, invert_affine(matrix), size)
    region = place.source_region(width, height)
    if region.empty:
        return None
    return warp(image[region.slices].astype(np.float32), place.relative_to_region(region).matrix, (size, size), cubic=False)


def transform_points(matrix: Matrix, points: NDArray[Any]) -> Points:
    """Transform points [..., 2] by a 2x3 matrix."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float64)


def _compose(second: Matrix, first: Matrix) -> Matrix:
    """Return the 2x3 matrix of `first`, then `second`."""
    return np.hstack((second[:, :2] @ first[:, :2], (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]))


def _patch_matrix(box: Box) -> Matrix:
    """Return the matrix that maps the box's center to the patch's, and its longer side to `FACE_SIZE` px."""
    scale = FACE_SIZE / max(box[2] - box[0], box[3] - box[1], 1.0)
    middle = (PATCH_SIZE - 1) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return np.array([[scale, 0.0, middle - scale * x], [0.0, scale, middle - scale * y]])


def _ellipse() -> NDArray[np.uint8]:
    mask = np.zeros((PATCH_SIZE, PATCH_SIZE), np.uint8)
    middle = PATCH_SIZE // 2
    cv2.ellipse(mask, (middle, middle), (FACE_SIZE * 2 // 5, FACE_SIZE // 2), 0, 0, 360, 255, -1)
    return mask


FACE_ELLIPSE = _ellipse()


def _normalize(image: FloatImage | None) -> NDArray[np.uint8] | None:
    """Normalize mean and contrast over the face, so that changing light has no effect. None for a flat face."""
    if image is None:
        return None
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA), np.float32)
    mean, deviation = (float(v[0, 0]) for v in cv2.meanStdDev(image, mask=FACE_ELLIPSE))
    if deviation <= 1e-4 * max(mean, 1e-6):
        return None
    return np.asarray(cv2.convertScaleAbs(image, alpha=48 / deviation, beta=128 - 48 * mean / deviation))


def _visible_bounds(matrix: Matrix, image: GrayImage) -> NDArray[np.float64]:
    """Return the image's bounds [4] x0, y0, x1, y1 in the patch. Patches are rotated only a little."""
    height, width = image.shape
    corners = transform_points(matrix, np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]))
    xs, ys = np.sort(corners[:, 0]), np.sort(corners[:, 1])
    return np.array([xs[1], ys[1], xs[2], ys[2]])


def _corners(image: NDArray[np.uint8], visible: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return corners of the face [C, 1, 2], which have contrast in both directions."""
    found: Any = cv2.goodFeaturesToTrack(image, MAX_CORNERS, 0.01, MIN_DISTANCE, mask=FACE_ELLIPSE)
    corners = np.zeros((0, 1, 2), np.float32) if found is None else np.asarray(found, np.float32)
    return corners[_inside(corners[:, 0], visible)]


def _track_points(
    one: NDArray[np.uint8], two: NDArray[np.uint8], corners: NDArray[np.float32], visible: NDArray[np.float64], levels: int
) -> tuple[Points, Points]:
    """Track corners [C, 1, 2] to the second patch and back. Return both ends [N, 2], or none if too few agree."""
    if len(corners) < MIN_POINTS:
        return np.zeros((0, 2)), np.zeros((0, 2))
    options: Any = {"winSize": WINDOW_SIZE, "maxLevel": levels, "criteria": (3, 20, 0.01)}
    forward, ok_there, _ = cv2.calcOpticalFlowPyrLK(one, two, corners, None, **options)  # type: ignore[call-overload]
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(two, one, forward, None, **options)  # type: ignore[call-overload]
    start, end, again = (p.reshape(-1, 2).astype(np.float64) for p in (corners, forward, back))
    good = (
        (ok_there.ravel() > 0)
        & (ok_back.ravel() > 0)
        & (np.hypot(*(again - start).T) < MAX_FORWARD_BACKWARD_ERROR)
        & _inside(end, visible)
    )
    return (start[good], end[good]) if good.sum() >= MIN_TRACKED_SHARE * len(corners) else (start[:0], end[:0])


def _inside(points: NDArray[Any], frame: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((points >= frame[:2]) & (points <= frame[2:])).all(axis=1))


def _fit_motion(start: Points, end: Points) -> Matrix | None:
    """Return the similarity that most points agree on, or None if they do not or if no face moves like that."""
    if len(start) < MIN_POINTS:
        return None
    options: Any = {"method": cv2.RANSAC, "ransacReprojThreshold": 2.0, "maxIters": 500, "refineIters": 0}
    rough: Any = cv2.estimateAffinePartial2D(start, end, **options)[0]
    if rough is None:
        return None
    matrix: Matrix = np.asarray(rough, np.float64)
    for _ in range(3):
        residual = np.hypot(*(transform_points(matrix, start) - end).T)
        sigma = max(
            MIN_SIGMA, float(np.median(residual)) / 1.177
        )  # of one coordinate, by the median of the Rayleigh distribution
        near = residual < OUTLIER_SIGMAS * sigma * np.sqrt(2)
        if near.sum() < max(MIN_POINTS, MIN_TRACKED_SHARE * len(start)):
            return None
        matrix = fit_similarity(start[near], end[near])
    spread = np.sqrt(((start[near] - start[near].mean(0)) ** 2).sum(1).mean())
    zoom, turn = np.hypot(matrix[0, 0], matrix[1, 0]), np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    is_plain = abs(np.log(zoom)) < np.log(MAX_ZOOM) and abs(turn) < MAX_ROTATION
    return matrix if is_plain and sigma < MAX_MOTION_SIGMA and spread > MIN_SPREAD * FACE_SIZE else None


def _correlate(one: NDArray[np.uint8], two: NDArray[np.uint8], matrix: Matrix) -> float:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(two, matrix, (PATCH_SIZE, PATCH_SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return normalized_correlation(one[FACE_ELLIPSE > 0], back[FACE_ELLIPSE > 0])


def normalized_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the correlation of two arrays, from -1 to 1; 0 if one of them is flat."""
    x, y = (np.asarray(v, np.float64).ravel() - v.mean() for v in (a, b))
    norm = math.sqrt((x * x).sum() * (y * y).sum())  # not by BLAS, which starts threads for arrays of this size
    return float((x * y).sum()) / norm if norm > 0 else 0.0

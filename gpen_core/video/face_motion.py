"""How a face moves from one frame of a film to the next, measured in the picture itself.

Corners of the face are followed forwards and backwards (Lucas and Kanade, IJCAI 1981, in pyramids; Kalal et al., ICPR 2010,
for the way back), and a similarity is fitted to those that agree. Dozens of points at a twentieth of a pixel tell a motion
far better than the detector's five landmarks do, which jitter by a hundredth of the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..faces.align import Alignment, Matrix, invert, similarity
from ..faces.face import Box
from ..faces.warp import warp
from ..images.image import FLOATS, FloatImage, Picture

Grey = NDArray[Any]
"""[H, W] of the picture's own type."""
Points = NDArray[np.float64]

FACE = 128  # px: the longer side of the box in the patch
PATCH = 208  # px
CORNERS = 80
APART = 5  # px
WINDOW = (19, 19)
LEVELS, LAST_LEVELS = 3, 1
SETTLED = 0.8  # px: what moves less need not be looked for again
BLUR = 1.0  # px, against noise
BACK = 1.0  # px: the way forwards and back must end that near to where it began
FEWEST = 10  # points
SMALLEST_SHARE = 0.4  # of the corners
SMALLEST_SPREAD = 0.15  # of the face: root mean square distance of the points from their centre
OUTLIER = 2.5  # standard deviations
FINEST = 0.05  # px: no point is known better
LARGEST_RESIDUAL = 2.5  # px of the patch
LARGEST_ZOOM = 1.25
LARGEST_TURN = 25.0  # degrees
SMALLEST_AGREEMENT = 0.5
EDGES = (PATCH - 1) / 2 + np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]) * FACE / 2
LARGEST_STEP = float(PATCH)
STILL: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Motion:
    """A face's similarity motion between two frames that follow each other."""

    matrix: Matrix
    """2x3, pixels of the frame before -> pixels of the frame after."""
    agreement: float
    """Correlation of the face before with the face after, moved back; at most 1."""


def grey(picture: Picture) -> Grey:
    """[H, W]: the picture's luma in its own type; float16 becomes float32."""
    pixels = picture.pixels
    if pixels.dtype in FLOATS:
        pixels = pixels.astype(np.float32, copy=False)
    if pixels.shape[2] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def follow(before: Grey, after: Grey, box: Box, guess: Matrix = STILL) -> Motion | None:
    """The motion of the face in `box` of `before`, or None where the picture does not tell it reliably.

    `guess` [2, 3] is where the search begins; it may be wrong by about a third of the face."""
    to_patch = _to_patch(box)
    one = _normalised(patch(before, to_patch, PATCH))
    if one is None:
        return None
    corners = _corners(one, _visible(to_patch, before))
    motion, step, agreement = guess, LARGEST_STEP, 0.0
    for levels in (LEVELS, LAST_LEVELS):  # what is left to be found shrinks, and with it the search's bias
        if step < SETTLED:
            break
        from_after = _compose(to_patch, invert(motion))
        two = _normalised(patch(after, from_after, PATCH))
        if two is None:
            return None
        matrix = _fitted(*_followed(one, two, corners, _visible(from_after, after), levels))
        if matrix is None:
            return None
        motion = _compose(_compose(invert(from_after), matrix), to_patch)
        step, agreement = float(np.abs(moved(matrix, EDGES) - EDGES).max()), _agreement(one, two, matrix)
    return Motion(motion, agreement) if agreement >= SMALLEST_AGREEMENT else None


def patch(image: Grey, matrix: Matrix, size: int) -> FloatImage | None:
    """[size, size] float32: what `matrix` takes from the picture; None where that lies outside of it altogether."""
    height, width = image.shape
    place = Alignment(matrix, invert(matrix), size)
    region = place.region(width, height)
    if region.empty:
        return None
    return warp(image[region.slices].astype(np.float32), place.within(region).matrix, (size, size), cubic=False)


def moved(matrix: Matrix, points: NDArray[Any]) -> Points:
    """[..., 2] points under a 2x3 matrix."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float64)


def _compose(second: Matrix, first: Matrix) -> Matrix:
    """2x3: `first`, then `second`."""
    return np.hstack((second[:, :2] @ first[:, :2], (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]))


def _to_patch(box: Box) -> Matrix:
    """The box's middle to the patch's, its longer side to `FACE` pixels."""
    scale = FACE / max(box[2] - box[0], box[3] - box[1], 1.0)
    middle = (PATCH - 1) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return np.array([[scale, 0.0, middle - scale * x], [0.0, scale, middle - scale * y]])


def _ellipse() -> NDArray[np.uint8]:
    mask = np.zeros((PATCH, PATCH), np.uint8)
    middle = PATCH // 2
    cv2.ellipse(mask, (middle, middle), (FACE * 2 // 5, FACE // 2), 0, 0, 360, 255, -1)
    return mask


ELLIPSE = _ellipse()


def _normalised(image: FloatImage | None) -> NDArray[np.uint8] | None:
    """With one mean and contrast over the face, so that light that changes matters not; None for a flat one."""
    if image is None:
        return None
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR), np.float32)
    mean, deviation = (float(v[0, 0]) for v in cv2.meanStdDev(image, mask=ELLIPSE))
    if deviation <= 1e-4 * max(mean, 1e-6):
        return None
    return np.asarray(cv2.convertScaleAbs(image, alpha=48 / deviation, beta=128 - 48 * mean / deviation))


def _visible(matrix: Matrix, image: Grey) -> NDArray[np.float64]:
    """[4] x0, y0, x1, y1 of the picture's frame in the patch; patches are not turned by much."""
    height, width = image.shape
    corners = moved(matrix, np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]))
    xs, ys = np.sort(corners[:, 0]), np.sort(corners[:, 1])
    return np.array([xs[1], ys[1], xs[2], ys[2]])


def _corners(image: NDArray[np.uint8], seen: NDArray[np.float64]) -> NDArray[np.float32]:
    """[C, 1, 2]: what of the face can be told from its surroundings in both directions."""
    found: Any = cv2.goodFeaturesToTrack(image, CORNERS, 0.01, APART, mask=ELLIPSE)
    corners = np.zeros((0, 1, 2), np.float32) if found is None else np.asarray(found, np.float32)
    return corners[_inside(corners[:, 0], seen)]


def _followed(
    one: NDArray[np.uint8], two: NDArray[np.uint8], corners: NDArray[np.float32], seen: NDArray[np.float64], levels: int
) -> tuple[Points, Points]:
    """[N, 2] corners [C, 1, 2] of the first patch that are found in the second, and come back; none where too few do."""
    if len(corners) < FEWEST:
        return np.zeros((0, 2)), np.zeros((0, 2))
    options: Any = {"winSize": WINDOW, "maxLevel": levels, "criteria": (3, 20, 0.01)}
    there, ok_there, _ = cv2.calcOpticalFlowPyrLK(one, two, corners, None, **options)  # type: ignore[call-overload]
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(two, one, there, None, **options)  # type: ignore[call-overload]
    start, end, again = (p.reshape(-1, 2).astype(np.float64) for p in (corners, there, back))
    good = (ok_there.ravel() > 0) & (ok_back.ravel() > 0) & (np.hypot(*(again - start).T) < BACK) & _inside(end, seen)
    return (start[good], end[good]) if good.sum() >= SMALLEST_SHARE * len(corners) else (start[:0], end[:0])


def _inside(points: NDArray[Any], frame: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((points >= frame[:2]) & (points <= frame[2:])).all(axis=1))


def _fitted(start: Points, end: Points) -> Matrix | None:
    """The similarity that most points agree upon, if they do and if a face can move so."""
    if len(start) < FEWEST:
        return None
    options: Any = {"method": cv2.RANSAC, "ransacReprojThreshold": 2.0, "maxIters": 500, "refineIters": 0}
    rough: Any = cv2.estimateAffinePartial2D(start, end, **options)[0]
    if rough is None:
        return None
    matrix: Matrix = np.asarray(rough, np.float64)
    for _ in range(3):
        residual = np.hypot(*(moved(matrix, start) - end).T)
        sigma = max(FINEST, float(np.median(residual)) / 1.177)  # of one coordinate: Rayleigh's median
        near = residual < OUTLIER * sigma * np.sqrt(2)
        if near.sum() < max(FEWEST, SMALLEST_SHARE * len(start)):
            return None
        matrix = similarity(start[near], end[near])
    spread = np.sqrt(((start[near] - start[near].mean(0)) ** 2).sum(1).mean())
    zoom, turn = np.hypot(matrix[0, 0], matrix[1, 0]), np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    is_plain = abs(np.log(zoom)) < np.log(LARGEST_ZOOM) and abs(turn) < LARGEST_TURN
    return matrix if is_plain and sigma < LARGEST_RESIDUAL and spread > SMALLEST_SPREAD * FACE else None


def _agreement(one: NDArray[np.uint8], two: NDArray[np.uint8], matrix: Matrix) -> float:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(two, matrix, (PATCH, PATCH), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return correlation(one[ELLIPSE > 0], back[ELLIPSE > 0])


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of two arrays' values, -1 to 1; 0 where one of them is flat."""
    x, y = (np.asarray(v, np.float64).ravel() - v.mean() for v in (a, b))
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else 0.0

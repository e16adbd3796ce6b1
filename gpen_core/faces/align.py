"""Aligning a face to the network's square crop: a least-squares similarity onto five template points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images.image import FloatImage, ImageData, Region
from .face import Face, Landmarks
from .warp import warp

Matrix = NDArray[np.float64]

# ArcFace's five points for 96 x 112 px, as InsightFace publishes them (Deng et al., CVPR 2019).
ARCFACE = np.array(
    [
        [30.29459953, 51.69630051],
        [65.53179932, 51.50139999],
        [48.02519989, 71.73660278],
        [33.54930115, 92.36550140],
        [62.72990036, 92.20410156],
    ]
)
TEMPLATES = {
    # The released weights expect ArcFace's points, made square (112 px, x shifted by 8) and padded by a quarter on each
    # side (168 px). Values are fractions of the side.
    "gpen": (ARCFACE + [8, 0] + 28) / 168,
    # The mean five points of FFHQ (Karras et al., CVPR 2019) at 512 px, from facexlib.
    "ffhq": np.array(
        [
            [192.98138, 239.94708],
            [318.90277, 240.19360],
            [256.63416, 314.01935],
            [201.26117, 371.41043],
            [313.08905, 371.15118],
        ]
    )
    / 512,
}
# Relative residual of the fit: 0 for the template itself, about 0.6 for a full profile, 0.97 for a mirrored face.
MAX_FIT_RESIDUAL = 0.75
MIN_SPREAD = 1.0  # px: root mean square distance of the landmarks from their center


@dataclass(frozen=True, eq=False)
class Alignment:
    """The transforms between an image and a face's square crop. Both matrices are 2x3 and map pixel centers."""

    matrix: Matrix
    """Image -> crop."""
    inverse: Matrix
    """Crop -> image."""
    size: int
    """Side of the crop in pixels."""

    @property
    def scale(self) -> float:
        """Crop pixels per image pixel."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    @property
    def side(self) -> float:
        """Side of the crop's square in image pixels."""
        return self.size / self.scale

    def relative_to_region(self, region: Region) -> Alignment:
        """Return the same alignment in pixel coordinates of `region`."""
        inverse = self.inverse.copy()
        inverse[:, 2] -= (region.x0, region.y0)
        return Alignment(self.matrix @ _translation(region.x0, region.y0), inverse, self.size)

    def source_region(self, width: int, height: int) -> Region:
        """Return the part of an image of this size that the crop covers; may be empty."""
        low, high = -0.5, self.size - 0.5
        corners = np.array([[low, low], [high, low], [low, high], [high, high]])
        xy = corners @ self.inverse[:, :2].T + self.inverse[:, 2]
        (x0, y0), (x1, y1) = np.floor(xy.min(0)).astype(int), np.ceil(xy.max(0)).astype(int) + 1
        return Region(max(int(x0), 0), max(int(y0), 0), min(int(x1), width), min(int(y1), height))


def landmark_template(size: int, name: str = "gpen") -> Landmarks:
    """Return the template's points [5, 2] in pixels of a crop with this side."""
    return np.asarray(TEMPLATES[name] * size, np.float64)


def fit_similarity(source: NDArray[Any], target: NDArray[Any]) -> Matrix:
    """Return the 2x3 similarity (rotation, uniform scale, translation; no reflection) that best maps `source` [N, 2] to
    `target`.

    Umeyama, IEEE PAMI 13(4), 1991, equations 40 to 43. In two dimensions the solution is one complex quotient.
    """
    z, t = _complex(source), _complex(target)
    z0, t0 = z.mean(), t.mean()
    a = np.vdot(z - z0, t - t0) / np.vdot(z - z0, z - z0).real
    b = t0 - a * z0
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def invert_affine(matrix: Matrix) -> Matrix:
    """Return the 2x3 inverse of a 2x3 similarity."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack((linear, -linear @ matrix[:, 2:]))


def align_face(landmarks: Landmarks, size: int, name: str = "gpen") -> Alignment | str:
    """Return the alignment of a face, or a text that says why its landmarks cannot be aligned."""
    points = np.asarray(landmarks, np.float64)
    if not np.isfinite(points).all():
        return "its landmarks are not finite"
    z, t = _complex(points), _complex(landmark_template(size, name))
    z, t = z - z.mean(), t - t.mean()
    spread = float(np.sqrt((np.abs(z) ** 2).mean()))
    if spread < MIN_SPREAD:
        return f"its landmarks are within {spread:.2g} px of each other"
    correlation = abs(np.vdot(z, t)) / np.sqrt(np.vdot(z, z).real * np.vdot(t, t).real)
    residual = float(np.sqrt(max(0.0, 1 - correlation**2)))
    if residual > MAX_FIT_RESIDUAL:
        return f"its landmarks are not those of a face (residual {residual:.2f}, at most {MAX_FIT_RESIDUAL})"
    matrix = fit_similarity(points, landmark_template(size, name))
    return Alignment(matrix, invert_affine(matrix), size)


def full_square(side: int, size: int) -> Alignment:
    """Return the alignment of an image that is already a face crop, `side` pixels wide."""
    ratio = size / side
    shift = (ratio - 1) / 2  # pixel centers
    matrix = np.array([[ratio, 0, shift], [0, ratio, shift]])
    return Alignment(matrix, invert_affine(matrix), size)


def square_face(image: ImageData, name: str = "gpen") -> Face:
    """Return the face in an image that is already a face crop. Raises `InputError` if the image is not square."""
    if image.width != image.height:
        raise InputError(
            f"The image is {image.width}x{image.height}, but an aligned face crop must be square. "
            "Crop it with its template, or let gpen detect the faces."
        )
    return Face((0.0, 0.0, image.width, image.height), 1.0, landmark_template(image.width, name))


def read_region(image: ImageData, alignment: Alignment) -> Region:
    """Return the part of the image that `crop_face` reads."""
    margin = 4 + int(2 / alignment.scale)  # pixels that interpolation and area reduction read beyond the crop
    return image.region_with_margin(alignment.source_region(*image.size), margin)


def crop_face(image: ImageData, alignment: Alignment) -> FloatImage:
    """Return the face's crop, [size, size, 3] float32 RGB in [0, 1]. Outside the image its border is repeated."""
    region = read_region(image, alignment)
    crop = warp(image.crop_rgb(region), alignment.relative_to_region(region).matrix, (alignment.size, alignment.size))
    return np.clip(crop, 0, 1, out=crop)


def crop_to_region_matrix(alignment: Alignment, region: Region, source_size: int) -> Matrix:
    """Return the matrix from a crop resized to `source_size` pixels to pixels of `region`."""
    ratio = alignment.size / source_size
    resized = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]])
    return np.asarray(alignment.relative_to_region(region).inverse @ resized, np.float64)


def _translation(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _complex(points: NDArray[Any]) -> NDArray[np.complex128]:
    xy = np.asarray(points, np.float64)
    return xy[:, 0] + 1j * xy[:, 1]


def ellipse_radius(side: int, center: tuple[float, float], half_axes: tuple[float, float]) -> Matrix:
    """Return each pixel's distance from an ellipse's center [side, side]; the ellipse's edge is at 1.

    `center` and `half_axes` are (x, y) as fractions of the crop's side."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    return np.asarray(np.hypot((x - center[0]) / half_axes[0], (y - center[1]) / half_axes[1]), np.float64)

"""The images of the demonstration: one real face, degraded, alone and in a collage of six."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...errors import MissingDependency
from ...faces.draw import draw_faces
from ...faces.face import Face
from ...images.image import RGB8
from ...optional_packages import install_command
from . import PACKAGES

HEAD_BOX = (60, 0, 340, 280)  # x0, y0, x1, y1 in px of the astronaut's head and shoulders
COLLAGE_SIZE = (1500, 1000)
# Center, side of the head image in pixels, tilt in degrees, factors on red, green and blue.
COLLAGE: tuple[tuple[tuple[int, int], int, float, tuple[float, float, float]], ...] = (
    ((330, 330), 620, 0.0, (1.0, 1.0, 1.0)),
    ((870, 250), 440, 18.0, (1.0, 0.85, 0.7)),
    ((1290, 240), 340, -22.0, (0.75, 0.85, 1.0)),
    ((230, 820), 300, 35.0, (0.6, 0.6, 0.6)),
    ((660, 740), 380, -10.0, (0.95, 0.8, 0.9)),
    ((1130, 720), 230, 5.0, (0.7, 1.0, 0.75)),
)


def astronaut() -> RGB8:
    """[512, 512, 3]: Eileen Collins, NASA, public domain, from scikit-image. Raises `MissingDependency`."""
    try:
        from skimage import data
    except ImportError as error:
        raise MissingDependency(
            f"The demonstration's photo requires scikit-image. Install what it needs: {install_command(PACKAGES)}"
        ) from error
    return np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call, unused-ignore]


def degrade(image: RGB8, sigma: float = 1.4, noise: float = 3.0, seed: int = 7) -> RGB8:
    """Blur by `sigma` pixels, then add white noise with a standard deviation of `noise` levels."""
    blurred = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32)
    grain = np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.asarray(np.rint(np.clip(blurred + grain, 0, 255)), np.uint8)


def collage() -> RGB8:
    """Draw six heads of different sizes, tilts and colors on gray, [1000, 1500, 3]."""
    x0, y0, x1, y1 = HEAD_BOX
    head = astronaut()[y0:y1, x0:x1].astype(np.float32)
    canvas = np.full((COLLAGE_SIZE[1], COLLAGE_SIZE[0], 3), 96, np.float32)
    for center, side, tilt, tint in COLLAGE:
        scale = side / head.shape[0]
        matrix = cv2.getRotationMatrix2D((head.shape[1] / 2, head.shape[0] / 2), tilt, scale)
        matrix[:, 2] += np.array(center) - (head.shape[1] / 2, head.shape[0] / 2)
        inside = cv2.warpAffine(np.ones(head.shape[:2], np.float32), matrix, COLLAGE_SIZE)[..., None]
        warped = cv2.warpAffine(head * np.array(tint, np.float32), matrix, COLLAGE_SIZE, flags=cv2.INTER_CUBIC)
        canvas += inside * (warped - canvas)
    return np.asarray(np.rint(np.clip(canvas, 0, 255)), np.uint8)


def side_by_side(before: RGB8, after: RGB8, faces: Sequence[Face]) -> RGB8:
    """Draw before (with boxes and face numbers) and after next to each other."""
    gap = np.full((before.shape[0], 8, 3), 255, np.uint8)
    return np.hstack((draw_faces(before, faces), gap, after))

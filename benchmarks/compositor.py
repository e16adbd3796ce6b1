"""The cost of everything around the network: seconds for 12 faces in a 12-megapixel image, compared with facexlib's paste.

    python benchmarks/compositor.py        (or: python benchmarks/compositor.py --sizes 512 2048 --runs 5)

All variants run in turn in one process. The network is skipped, so crops are pasted back unchanged. Our part is alignment,
the feathered mask and the paste with its blur. facexlib's part is `paste_faces_to_input_image` without a parser for the same
faces. The detector (ResNet-50, 1000x752) and the parser (one face) are timed, too, with seeded weights. Compare the ratios;
the seconds depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from timing import SPREAD, seconds, spread

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402

from gpen_core.faces import mask as masks  # noqa: E402
from gpen_core.faces.align import Alignment, align_face, crop_face  # noqa: E402
from gpen_core.faces.blend import Canvas, blur_small_face  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.images.image import FloatImage, ImageData, to_image_data  # noqa: E402

WIDTH, HEIGHT = 4000, 3000
COLUMNS, ROWS = 4, 3
SMALLEST, LARGEST = 80, 500  # px: sides of the faces
DETECT_SHAPE = (752, 1000)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HELD = {512: 10, 2048: 3}  # facexlib's paste must take at least that many times as long


@dataclass
class Table:
    """Seconds by name, the first round left out: it warms up."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        self.taken.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.taken[name][1:])

    def show(self, title: str, yardstick: str) -> None:
        for name, values in self.taken.items():
            kept = values[1:]
            print(f"{title:>9} {name:26}{spread(kept, 3)} {self.median(yardstick) / self.median(name):8.1f}x", flush=True)


def twelve_faces() -> list[Face]:
    """One per cell of a grid, from small to large, tilted this way and that."""
    sides = np.geomspace(SMALLEST, LARGEST, COLUMNS * ROWS)
    cell = (WIDTH / COLUMNS, HEIGHT / ROWS)
    places = [((n % COLUMNS + 0.5) * cell[0] + 0.3, (n // COLUMNS + 0.5) * cell[1] - 0.2) for n in range(COLUMNS * ROWS)]
    return [helpers.make_face(place, float(side), 15 * (n % 5 - 2)) for n, (place, side) in enumerate(zip(places, sides))]


def found(face: Face, size: int) -> Alignment:
    """The alignment of a face that has one."""
    alignment = align_face(face.landmarks, size)
    assert isinstance(alignment, Alignment)
    return alignment


def ours(picture: ImageData, faces: list[Face], size: int, table: Table) -> None:
    """One round of everything but the network; adds each stage's seconds over all faces."""
    took = dict.fromkeys(("align", "feather mask", "paste"), 0.0)
    start = time.perf_counter()
    canvas = Canvas(picture)
    took["paste"] += time.perf_counter() - start
    start = time.perf_counter()
    mask = masks.square_mask()  # once, as the restorer makes it
    took["feather mask"] += time.perf_counter() - start
    for face in faces:
        start = time.perf_counter()
        alignment = found(face, size)
        crop = crop_face(picture, alignment)
        aligned = time.perf_counter()
        canvas.paste(blur_small_face(crop, face), mask, alignment)
        took["paste"] += time.perf_counter() - aligned
        took["align"] += aligned - start
    for name, value in took.items():
        table.add(name, value)
    table.add("ours together", sum(took.values()))


def facexlib_paste(picture: ImageData, faces: list[Face], size: int) -> Callable[[], object]:
    """facexlib's paste of the same crops, 8 bits, without a parser and without its constructor, which downloads."""
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

    helper: Any = FaceRestoreHelper.__new__(FaceRestoreHelper)
    helper.upscale_factor, helper.use_parse, helper.face_size = 1, False, (size, size)
    helper.input_img = np.ascontiguousarray(picture.pixels[..., ::-1])  # RGB -> BGR
    alignments = [found(face, size) for face in faces]
    crops: list[FloatImage] = [crop_face(picture, alignment) for alignment in alignments]
    helper.restored_faces = [np.rint(crop[..., ::-1] * 255).astype(np.uint8) for crop in crops]
    helper.inverse_affine_matrices = [alignment.inverse for alignment in alignments]
    return lambda: helper.paste_faces_to_input_image()


def time_compositor(size: int, runs: int) -> None:
    """Prints a line per stage, with facexlib's paste divided by it."""
    rough = (helpers.texture(HEIGHT // 4, WIDTH // 4) * 255).astype(np.uint8)
    picture = to_image_data(cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    faces = twelve_faces()
    theirs, table = facexlib_paste(picture, faces, size), Table()
    for _ in range(runs + 1):
        table.add("facexlib's paste", seconds(theirs))
        ours(picture, faces, size, table)
    table.show(str(size), "facexlib's paste")
    ratio = table.median("facexlib's paste") / table.median("ours together")
    print(f"{size:>9} {ratio:.1f}x of at least {HELD[size]}x: {'held' if ratio >= HELD[size] else 'MISSED'}")


def seeded(build: Callable[[], torch.nn.Module]) -> dict[str, torch.Tensor]:
    """Weights as the classes initialize themselves."""
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # facexlib calls torchvision with a deprecated argument
        return build().state_dict()


def networks(runs: int) -> None:
    """Prints seconds per image of the detector and per face of the parser."""
    from facexlib.detection.retinaface import RetinaFace
    from facexlib.parsing.parsenet import ParseNet

    cpu = torch.device("cpu")
    retinaface = seeded(lambda: RetinaFace("resnet50", device=cpu))
    parsenet = seeded(lambda: ParseNet(in_size=masks.MASK_SIZE, out_size=masks.MASK_SIZE, parsing_ch=masks.NUM_CLASSES))
    picture = to_image_data((helpers.texture(*DETECT_SHAPE) * 255).astype(np.uint8))
    crop = helpers.texture(masks.MASK_SIZE, masks.MASK_SIZE)
    detectors = {name: Detector.from_state_dict(retinaface, cpu, dtype) for name, dtype in DTYPES.items()}
    parsers = {name: masks.FaceParser.from_state_dict(parsenet, cpu, dtype) for name, dtype in DTYPES.items()}
    detection, parsing = Table(), Table()
    for _ in range(runs + 1):
        for name in DTYPES:
            # Scores of untrained weights mean nothing: none is taken, so that only the network and its priors count.
            detection.add(
                f"detector {name}",
                seconds(lambda name=name: list(detectors[name].forward(picture.to_bgr255(2000)[None], 1.0))),
            )
            parsing.add(f"parser {name}", seconds(lambda name=name: parsers[name].mask(crop)))
    detection.show("1000x752", "detector fp32")
    parsing.show("a face", "parser fp32")


def main() -> None:
    """Parses the arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 2048], choices=sorted(HELD))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-networks", action="store_true", help="leave detector and parser out")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {torch.get_num_threads()} threads, {given.runs} runs")
    print(f"{'':36}{SPREAD} {'speed-up':>9}")
    for size in given.sizes:
        time_compositor(size, given.runs)
    if not given.no_networks:
        networks(given.runs)


if __name__ == "__main__":
    main()

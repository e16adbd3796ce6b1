"""Milliseconds per stage for a 12-megapixel photo, with pre- and postprocessing on the device or with OpenCV on the CPU.

    python benchmarks/end_to_end.py --device cuda
    python benchmarks/end_to_end.py --device cpu --sizes 256 --dtypes fp32 --faces 1 --runs 1     (a quick check)

The weights are random. The detector (ResNet-50) runs, but its output is replaced by the known faces. All variants run in
each round, and the first round is a warm-up. Stages are those of the report; on a GPU they show where the CPU waited. Peak
memory is what torch allocated on the device above the previous level, without the weights. `--mask-type parse` requires
facexlib and uses random weights, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from timing import interleave, seconds

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
from compositor import twelve_faces  # noqa: E402
from untrained import blind_resnet50  # noqa: E402

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.faces import mask as masks  # noqa: E402
from gpen_core.faces.detection.image_source import ImageBatch  # noqa: E402
from gpen_core.faces.detection.pyramid import Detections, rescale  # noqa: E402
from gpen_core.faces.detection.refine import CROP_SIZE, FACE_SIZE  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.images.image import ImageData  # noqa: E402
from gpen_core.network import GPEN  # noqa: E402
from gpen_core.pipeline.devices import DTYPES  # noqa: E402
from gpen_core.pipeline.model_set import GPENRunner, ModelSet  # noqa: E402
from gpen_core.pipeline.restore_result import RestoreResult  # noqa: E402
from gpen_core.pipeline.restorer import FaceRestorer  # noqa: E402

HEIGHT, WIDTH = 3000, 4000
MB = 2**20
STAGES = ("detect", "align", "network", "mask", "blend")
COLUMNS = ("size", "type", "faces", "way    ", "together", "   a face", *(f"{one:>8}" for one in STAGES), "    peak")
HEADING = f"{COLUMNS[0]:>5} {COLUMNS[1]:5} {' '.join(COLUMNS[2:4])} {COLUMNS[4]:>9} {' '.join(COLUMNS[5:])}"


def parser_on(device: torch.device) -> masks.FaceParser:
    from facexlib.parsing.parsenet import ParseNet

    torch.manual_seed(7)
    weights = ParseNet(in_size=masks.MASK_SIZE, out_size=masks.MASK_SIZE, parsing_ch=masks.NUM_CLASSES).state_dict()
    return masks.FaceParser.from_state_dict(weights, device)


class FixedDetector(Detector):
    """It looks at all that a detector looks at, and sees the faces that it was told of."""

    def __init__(self, faces: Sequence[Face], device: torch.device, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        """`size`: of the images, in pixels."""
        blind = Detector.from_state_dict(blind_resnet50(), device)
        super().__init__(blind.network, blind.name)
        self._faces, self._size = list(faces), size
        self._whole = np.array([[*face.box, face.score, *face.landmarks.ravel()] for face in faces])

    def forward(self, batch: ImageBatch, confidence: float, min_size: float = 0) -> Iterator[Detections]:
        seen = super().forward(batch, confidence, min_size)
        height, width = batch.shape[1:3]
        near = helpers.detection_row(32, 20, FACE_SIZE)[None]  # one in the middle of the square
        rows = near if width == CROP_SIZE else rescale(self._whole, (width / self._size[0], height / self._size[1]))
        return (rows for _ in seen)

    def detect(self, pictures: Sequence[ImageData], *given: Any, **more: Any) -> list[list[Face]]:
        return [self._faces for _ in super().detect(pictures, *given)]


class TimedRestorer:
    """One restorer with all around its networks on the device or by OpenCV, and what its last call told."""

    def __init__(self, restorer: FaceRestorer, image: np.ndarray, options: RestoreOptions, is_on_device: bool) -> None:
        self.restorer, self.image, self.options, self.is_on_device = restorer, image, options, is_on_device
        self.stages: list[dict[str, float]] = []
        self.peak = 0.0

    def __call__(self) -> float:
        results: list[RestoreResult] = []
        is_cuda = self.restorer.device.type == "cuda"
        if is_cuda:
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        with mock.patch("gpen_core.pipeline.device_check.supports_image_ops", lambda device: self.is_on_device):
            took = seconds(lambda: results.append(self.restorer.restore(self.image, self.options)))
        if is_cuda:
            self.peak = (torch.cuda.max_memory_allocated() - held) / MB
        assert results[0].is_changed
        self.stages.append(results[0].seconds)
        return took

    def stage(self, name: str) -> float:
        """Its median in milliseconds, without the round that warms up."""
        return 1000 * statistics.median(one[name] for one in self.stages[1:])


def compare(
    size: int, dtype: str, count: int, device: torch.device, options: RestoreOptions, runs: int
) -> list[dict[str, object]]:
    """Prints a line for each way, and gives what stands in it."""
    rows: list[dict[str, object]] = []
    image = np.tile((helpers.texture(HEIGHT // 4, WIDTH // 4, sigma=1) * 255).astype(np.uint8), (4, 4, 1))
    network = GPENRunner(GPEN.from_state_dict(helpers.random_weights(size), DTYPES[dtype]), device)
    detector = FixedDetector(twelve_faces()[-count:], device)
    restorer = FaceRestorer(ModelSet([network], detector, device, lambda progress: parser_on(device)))
    ways = {
        "device": TimedRestorer(restorer, image, options, True),
        "OpenCV": TimedRestorer(restorer, image, options, False),
    }
    for name, taken in interleave(ways, runs).items():
        way = ways[name]
        total = 1000 * statistics.median(taken)
        stages = {stage: way.stage(stage) for stage in STAGES}
        shown = " ".join(f"{value:8.1f}" for value in stages.values())
        print(f"{size:5} {dtype:5} {count:5} {name:7} {total:9.1f} {total / count:9.1f} {shown} {way.peak:8.0f}", flush=True)
        rows.append({"what": "photograph, 12 Mpx", "size": size, "dtype": dtype, "faces": count, "way": name, "ms": total})
        rows[-1].update(stages, peak=way.peak)
    return rows


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024, 2048])
    parser.add_argument("--dtypes", nargs="*", default=["fp16"], choices=sorted(DTYPES))
    parser.add_argument("--faces", type=int, nargs="*", default=[1, 8], help="how many of twelve, the largest first")
    parser.add_argument("--mask-type", default="feather", choices=["feather", "parse"])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"torch {torch.__version__} on {name}, {given.mask_type} masks, medians of {given.runs}, milliseconds and MB")
    print(HEADING)
    options = RestoreOptions(mask_type=given.mask_type)
    for size in given.sizes:
        for dtype in given.dtypes:
            for count in given.faces:
                compare(size, dtype, count, device, options, given.runs)


if __name__ == "__main__":
    main()

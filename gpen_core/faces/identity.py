"""Who is who: embeddings of faces, and which of several people a face is."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError, first_line, is_out_of_memory
from ..images.image import FloatImage, ImageData
from .align import ARCFACE, MIN_SPREAD, Alignment, fit_similarity, invert_affine, read_region
from .face import Face, Landmarks
from .warp import warp

Embedding = NDArray[np.float32]
"""[D], of length 1."""

TRIAL_SHARES = (1.0, 0.75, 0.5, 0.25)
"""The shares of the requested strength that are tried, in this order."""
MIN_TRUSTED_SIZE = 24.0  # px, shorter side of a face; see docs/identity-benchmarks.md
MAX_TRUSTED_BLUR = 0.75  # of `blur_effect`
BLUR_SIZE, BLUR_LENGTH = 80, 7  # px
CLOSE_CALL = 0.05
"""Similarities this close to the threshold are reported as uncertain."""


class FaceEmbedder(Protocol):
    """Turns an aligned face into a vector of length 1. The cosine of two vectors is the similarity of two faces."""

    size: int
    """Side of an aligned face in pixels."""
    template: Landmarks
    """[5, 2]: where the landmarks of an aligned face are, in its pixels."""
    threshold: float
    """From this similarity on, two faces count as the same person."""
    join_threshold: float
    """From this similarity on, groups of faces are joined to one person. It is higher, because among many people some two
    are alike, and a wrong join is worse than a missed one."""

    def embed(self, face: FloatImage) -> Embedding:
        """Return the embedding of an aligned face, [size, size, 3] RGB in [0, 1]."""


class SFace:
    """SFace (Zhong et al., IEEE TIP 2021) as OpenCV's model zoo publishes it, run by OpenCV.

    It gives what `cv2.FaceRecognizerSF` gives, but reads its file from bytes that were verified before."""

    size = 112
    template = ARCFACE + np.array([8, 0])  # ArcFace's points for 96 x 112 px, centered in a square
    threshold = 0.363  # published with the model, for the cosine
    join_threshold = 0.45  # estimated from dlib's, see docs/identity-benchmarks.md

    def __init__(self, content: bytes) -> None:
        """`content` is the ONNX file. Raises `WeightsError` if OpenCV cannot read it or it is another network."""
        self._lock = threading.Lock()  # OpenCV's networks cannot run in two threads at a time
        try:
            self._network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
            shape = self._forward(np.zeros((self.size, self.size, 3), np.float32)).shape
        except cv2.error as error:
            if is_out_of_memory(error):
                raise
            raise WeightsError(
                f"OpenCV {cv2.__version__} cannot run it ({first_line(error)}). Install a newer OpenCV."
            ) from error
        if shape[0] < 2:
            raise WeightsError(f"It is not a face embedder: its output has the shape {list(shape)}.")

    def embed(self, face: FloatImage) -> Embedding:
        """See `FaceEmbedder.embed`. Raises `WeightsError` if the network's output is not finite."""
        return unit(self._forward(face))

    def _forward(self, face: FloatImage) -> NDArray[np.float32]:
        blob = np.ascontiguousarray((face * np.float32(255)).transpose(2, 0, 1)[None])  # HWC in [0, 1] -> NCHW in [0, 255]
        with self._lock:
            self._network.setInput(blob)
            return np.asarray(self._network.forward(), np.float32).ravel()


def unit(vector: NDArray[Any]) -> Embedding:
    """Return the vector with length 1; zeros stay zeros. Raises `WeightsError` if it is not finite."""
    if not np.isfinite(vector).all():
        raise WeightsError("The face embedder's output is not finite. Download its file again.")
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def align_for(embedder: FaceEmbedder, landmarks: Landmarks) -> Alignment | None:
    """Return the alignment of a face for the embedder, or None if its landmarks have none."""
    points = np.asarray(landmarks, np.float64)
    if not np.isfinite(points).all() or points.std(0).max() < MIN_SPREAD:
        return None
    matrix = fit_similarity(points, embedder.template)
    return Alignment(matrix, invert_affine(matrix), embedder.size)


def embed_face(embedder: FaceEmbedder, image: ImageData, landmarks: Landmarks) -> Embedding | None:
    """Return the embedding of a face in an image; None if its landmarks have no alignment or are outside the image.

    `landmarks` [5, 2] are in pixels of the image."""
    aligned = _align_face(embedder, image, landmarks)
    return None if aligned is None else embedder.embed(aligned)


def embed_crop(embedder: FaceEmbedder, crop: FloatImage, landmarks: Landmarks) -> Embedding | None:
    """Return the embedding of a face in a crop [S, S, 3] RGB in [0, 1], with the landmarks in its pixels."""
    alignment = align_for(embedder, landmarks)
    return None if alignment is None else embedder.embed(_warp(crop, alignment))


def embed_with_weight(
    embedder: FaceEmbedder, image: ImageData, face: Face, min_size: float = MIN_TRUSTED_SIZE
) -> tuple[Embedding, float] | None:
    """Return the embedding of a face, see `embed_face`, and how much it counts: more for a large, sharp, sure face.

    The weight is 0 if the face is too small or too blurry to tell who it is."""
    aligned = _align_face(embedder, image, face.landmarks)
    if aligned is None:
        return None
    blur = blur_effect(aligned)
    is_trusted = face.shorter_side >= min_size and blur <= MAX_TRUSTED_BLUR
    weight = face.score * min(face.shorter_side, embedder.size) * (1 - blur) if is_trusted else 0.0
    return embedder.embed(aligned), weight


def blur_effect(rgb: FloatImage) -> float:
    """Return how blurry an aligned face [S, S, 3] is, from 0 (sharp) to 1.

    The share of the gradients that survives another blur of the same image (Crete et al., 2007), in the middle
    two thirds at 80 px. A face that was enlarged to S counts as blurry, too."""
    margin = rgb.shape[0] // 6  # what is beside the face, and black outside the image
    gray = cv2.cvtColor(rgb[margin:-margin, margin:-margin], cv2.COLOR_RGB2GRAY)
    if gray.shape[0] != BLUR_SIZE:
        gray = cv2.resize(gray, (BLUR_SIZE, BLUR_SIZE), interpolation=cv2.INTER_AREA)
    blurs = []
    for axis, kernel in ((0, (1, BLUR_LENGTH)), (1, (BLUR_LENGTH, 1))):
        sharp = np.abs(np.diff(gray, axis=axis))
        smooth = np.abs(np.diff(cv2.blur(gray, kernel), axis=axis))
        blurs.append(1 - float(np.maximum(sharp - smooth, 0).sum()) / max(float(sharp.sum()), 1e-6))
    return max(blurs)


def _align_face(embedder: FaceEmbedder, image: ImageData, landmarks: Landmarks) -> FloatImage | None:
    """Return the aligned face of an image; None if its landmarks have no alignment or are outside the image."""
    alignment = align_for(embedder, landmarks)
    if alignment is None or alignment.source_region(*image.size).empty:
        return None
    region = read_region(image, alignment)
    return _warp(image.crop_rgb(region), alignment.relative_to_region(region))


def _warp(rgb: FloatImage, alignment: Alignment) -> FloatImage:
    """Interpolate linearly and fill with black, as OpenCV's recognizer does. Larger faces are averaged, so none aliases."""
    size = (alignment.size, alignment.size)
    return np.clip(warp(rgb, alignment.matrix, size, cubic=False, replicate=False), 0, 1)


@dataclass(frozen=True)
class StrengthTrial:
    """The strength at which a restored face keeps its identity."""

    strength: float | None
    """None if no tried strength keeps it."""
    identity: float
    """Similarity to the input at that strength, or at the lowest that was tried."""
    full_identity: float
    """Similarity at the requested strength."""

    @property
    def lowered_text(self) -> str:
        """Return `0.5 for an identity of 0.52 (before 0.31)`."""
        return f"{self.strength:.2g} for an identity of {self.identity:.2f} (before {self.full_identity:.2f})"


def identity_skip_reason(trial: StrengthTrial | None, minimum: float) -> str:
    """Return why a face is skipped that has no trial, or one without a strength."""
    if trial is None:
        return "its identity cannot be measured"
    values = f"{trial.identity:.2f} at a quarter of the strength, {trial.full_identity:.2f} at the whole"
    return f"its identity would not be kept: {values}, minimum {minimum:g}"


def trial_identities(embedder: FaceEmbedder, before: FloatImage, after: FloatImage) -> Iterator[float]:
    """Yield the similarity of a face to its input at each of `TRIAL_SHARES` of the requested strength.

    Both are aligned faces [size, size, 3] RGB in [0, 1]. `after` is restored at the requested strength."""
    reference = embedder.embed(before)
    for share in TRIAL_SHARES:
        yield float(reference @ embedder.embed(before + np.float32(share) * (after - before)))


def face_identities(
    embedder: FaceEmbedder, image: ImageData, restored: ImageData, landmarks: Landmarks
) -> tuple[float, ...] | None:
    """Return the `trial_identities` of a face in an image and in the restored image of the same size.

    None if its landmarks have no alignment or are outside the image."""
    before, after = (_align_face(embedder, one, landmarks) for one in (image, restored))
    return None if before is None or after is None else tuple(trial_identities(embedder, before, after))


def select_strength(identities: Iterable[float], strength: float, minimum: float) -> StrengthTrial:
    """Return the highest share of `strength` at which the identity is at least `minimum`.

    `identities` are those of `trial_identities`. Those after the first that holds are not computed."""
    tried: list[float] = []
    for share, identity in zip(TRIAL_SHARES, identities):
        tried.append(identity)
        if identity >= minimum:
            return StrengthTrial(share * strength, identity, tried[0])
    return StrengthTrial(None, tried[-1], tried[0])


def strength_for_identity(
    embedder: FaceEmbedder,
    crop: FloatImage,
    restored: FloatImage,
    mask: FloatImage | None,
    landmarks: Landmarks,
    strength: float,
    minimum: float,
) -> StrengthTrial | None:
    """Return the highest of four strengths, up to `strength`, at which the face is as similar to the input as `minimum`.

    Both crops are [S, S, 3] RGB in [0, 1], and `landmarks` are in their pixels. `mask` [M, M] covers the same square; None
    uses all of it. None if the landmarks have no alignment."""
    alignment = align_for(embedder, landmarks)
    if alignment is None:
        return None
    before, after = _warp(crop, alignment), _warp(restored, alignment)
    weight: FloatImage | np.float32 = np.float32(1)
    if mask is not None:
        scaled = (landmarks + 0.5) * (mask.shape[0] / crop.shape[0]) - 0.5
        matrix = fit_similarity(scaled, embedder.template)
        weight = warp(mask, matrix, (embedder.size, embedder.size), cubic=False, replicate=False)[..., None]
    blend = before + np.float32(strength) * weight * (after - before)
    return select_strength(trial_identities(embedder, before, blend), strength, minimum)


@dataclass(frozen=True, eq=False)
class Person:
    """A person known by photos."""

    name: str
    """Its name in messages, such as the path of the photo."""
    embedding: Embedding
    """The mean of the photos' embeddings, of length 1."""
    is_excluded: bool = False
    """Whether the person is left out."""
    digest: str = ""
    """SHA-256 of the photos' bytes."""


@dataclass(frozen=True)
class PersonMatch:
    """The most similar person to a face."""

    name: str
    similarity: float
    """The cosine to that person, -1 to 1."""
    is_same: bool
    """Whether it is at least the threshold."""
    is_excluded: bool
    """Whether that person is left out."""
    wanted_name: str | None = None
    wanted_similarity: float | None = None
    """The most similar person among those to restore; None if there are only people to leave out."""
    threshold: float = SFace.threshold

    @property
    def is_close_call(self) -> bool:
        return abs(self.similarity - self.threshold) < CLOSE_CALL

    @property
    def text(self) -> str:
        """Return `0.21 like NAME, 0.363 counts as the same person`."""
        return f"{self.similarity:.2f} like {self.name}, {self.threshold:g} counts as the same person"


def match_person(embedding: Embedding | None, people: Sequence[Person], threshold: float) -> PersonMatch | None:
    """Return which of the people a face is. None without people, or if the face has no embedding.

    The most similar person decides, so a face that is like a person to restore and at least as much like one to leave out
    is left out."""
    if embedding is None or not people:
        return None
    scores = [(float(embedding @ person.embedding), person) for person in people]
    score, person = max(scores, key=lambda one: (one[0], one[1].is_excluded))
    best, wanted = max(((s, p) for s, p in scores if not p.is_excluded), key=lambda one: one[0], default=(None, None))
    return PersonMatch(
        person.name,
        score,
        score >= threshold,
        person.is_excluded,
        None if wanted is None else wanted.name,
        best,
        threshold,
    )


def mean_embedding(embeddings: Sequence[Embedding], weights: Sequence[float] | None = None) -> Embedding:
    """Return the weighted mean of embeddings, of length 1."""
    return unit(np.average(np.stack(embeddings), axis=0, weights=weights))

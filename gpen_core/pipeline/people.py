"""Reads reference photos, and tells which of those people a face is."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..faces.face import Face
from ..faces.identity import (
    Embedding,
    FaceEmbedder,
    Person,
    PersonMatch,
    embed_face,
    embed_with_weight,
    match_person,
    mean_embedding,
)
from ..faces.select import flag_implausible
from ..images import formats
from ..images.codecs import EncodedImage
from ..images.image import ImageData
from ..options import FaceReference, RestoreOptions, face_references, photo_path
from .source_file import load_encoded

log = logging.getLogger(__name__)

DetectFaces = Callable[[ImageData], Sequence[Face]]


@dataclass(frozen=True, eq=False)
class People:
    """The people of the option `faces`, and the embedder that compares faces with them."""

    embedder: FaceEmbedder
    people: tuple[Person, ...]

    def match(self, image: ImageData, faces: Sequence[Face]) -> list[PersonMatch | None]:
        """Return which person each face of an image is, see `match_person`. Skipped faces are not compared."""
        return [None if face.reason else self.match_embedding(self.embed(image, face)) for face in faces]

    def embed(self, image: ImageData, face: Face) -> Embedding | None:
        """See `embed_face`."""
        return embed_face(self.embedder, image, face.landmarks)

    def match_embedding(self, embedding: Embedding | None) -> PersonMatch | None:
        return match_person(embedding, self.people, self.embedder.threshold)

    def similarity_to_wanted(self, embedding: Embedding | None) -> float | None:
        """Return the similarity to the most similar person to restore; None if there is none."""
        wanted = [person for person in self.people if not person.is_excluded]
        return None if embedding is None else max((float(embedding @ one.embedding) for one in wanted), default=None)


class ReferenceCache:
    """Keeps the people of the last reference photos, so that a run over many images reads the photos once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: object = None
        self._photos: tuple[object, ...] = ()
        self._people: People | None = None

    def get(self, options: RestoreOptions, embedder: FaceEmbedder, detect: DetectFaces) -> People | None:
        """Return the people of these options, or None if they name no reference. Errors as in `load_person`."""
        references = face_references(options.faces)
        if not references:
            return None
        photos = [tuple(_photos(one)) for one in references]
        detection = (options.confidence, options.detection_size, options.angles)
        key = detection, [(one.is_excluded, one.name, list(map(_state, group))) for one, group in zip(references, photos)]
        with self._lock:
            if key != self._key:
                people = tuple(load_person(*one, embedder, detect) for one in zip(references, photos))
                self._key, self._people = key, People(embedder, people)
                self._photos = tuple(photos)  # kept alive, because `_state` uses the `id` of some
            return self._people


def load_person(reference: FaceReference, photos: Sequence[object], embedder: FaceEmbedder, detect: DetectFaces) -> Person:
    """Detect the face in each photo, and return the person with the mean of their embeddings. Log a warning if a face is too
    small or too blurry.

    Raises `InputError` if a photo cannot be read, or does not have exactly one face."""
    loaded = [load_encoded(photo) for photo in photos]
    embeddings = []
    for photo, encoded in zip(photos, loaded):
        name = photo_path(photo) or reference.name
        faces = usable_faces(encoded.image, detect)
        if len(faces) != 1:
            found = "no face was found in it" if not faces else f"it has {len(faces)} faces"
            raise InputError(f"{name} is not a photo of one person: {found}. Crop it, or use another photo.")
        embedded = embed_with_weight(embedder, encoded.image, faces[0])
        if embedded is None:
            raise InputError(f"{name} is not usable as a reference: its face cannot be aligned. Use another photo.")
        embedding, weight = embedded
        if weight == 0:
            log.warning("%s: its face is too small or too blurry to tell who it is. Use another photo.", name)
        embeddings.append(embedding)
    return Person(reference.name, mean_embedding(embeddings), reference.is_excluded, _digest(loaded))


def usable_faces(image: ImageData, detect: DetectFaces) -> list[Face]:
    """Return the faces of a reference photo. It must have exactly one."""
    return [face for face in flag_implausible(detect(image)) if face.reason is None]


def references_digest(options: RestoreOptions) -> dict[str, str]:
    """Return the SHA-256 of the photos of each reference by its text. Raises `InputError` if a photo cannot be read.

    A run that resumes another one compares them."""
    return {str(one): _digest([load_encoded(photo) for photo in _photos(one)]) for one in face_references(options.faces)}


def _digest(photos: Sequence[EncodedImage]) -> str:
    """Return one SHA-256 of the bytes of files, or the pixels of images in memory."""
    digest = hashlib.sha256()
    for photo in photos:
        pixels = photo.image.pixels
        content = photo.data or f"{pixels.dtype} {pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()


def _photos(reference: FaceReference) -> Iterator[object]:
    """Yield the photos of a reference. A folder stands for the images in it, without its subfolders.

    Raises `InputError` for a folder without images."""
    for photo in reference.photos:
        path = photo_path(photo)
        try:
            if path is None or not Path(path).is_dir():
                yield photo
                continue
            files = sorted(one for one in Path(path).iterdir() if _is_image(one))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        if not files:
            raise InputError(f"{path} has no images. Put photos of one person into this folder.")
        yield from files


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in formats.INPUT_SUFFIXES


def _state(photo: object) -> object:
    """Return what changes when a photo changes: of a file, its path, size and time; of an image in memory, its pixels."""
    path = photo_path(photo)
    if path is None:
        is_fixed = isinstance(photo, (bytes, EncodedImage)) or callable(getattr(photo, "read", None))
        return id(photo) if is_fixed else _digest([load_encoded(photo)])
    try:
        status = Path(path).stat()
    except OSError:  # reading it raises the error
        return path
    return str(path), status.st_size, status.st_mtime_ns


def with_identity(face: Face, people: People | None, before: Embedding | None, after: Embedding | None) -> Face:
    """Return a restored face with its similarity to the input and, after the restoration, to the person to restore."""
    if before is None or after is None:
        return face
    similarity = None if people is None else people.similarity_to_wanted(after)
    return replace(face, identity=float(before @ after), similarity_restored=similarity)

"""Who is in which photos: the faces of many images, grouped by person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..faces.cluster import cluster_photos
from ..faces.face import Box, Face
from ..faces.identity import Embedding, FaceEmbedder, embed_with_weight
from ..faces.thumbnail import face_thumbnail
from ..images import codecs
from ..images.image import RGB8, ImageData, from_array, to_rgb8
from ..progress import pluralize
from .people import DetectFaces, usable_faces

THUMBNAIL_QUALITY = 92  # of JPEG
MAX_REFERENCES = 5  # thumbnails of a person
MAX_TRIED = 3 * MAX_REFERENCES
TRIMS = (1.0, 0.8, 0.65)
"""Shares of a thumbnail's side, in its middle: with less around the face, it no longer shows the face of a neighbor."""


@dataclass(frozen=True, eq=False)
class PhotoFace:
    """A face of a photo, without the photo's pixels."""

    photo: int
    """The number of the photo, from 0."""
    number: int
    """The number of the face in its photo, which the option `faces` accepts."""
    box: Box
    score: float
    weight: float
    """How much it counts, see `embed_with_weight`. 0: it is too small or too blurry to tell who it is."""
    is_cut_off: bool
    """Whether the box reaches beyond the photo."""
    embedding: Embedding | None
    """None without an embedder."""
    thumbnail: bytes
    """The aligned face as JPEG, see `face_thumbnail`."""


@dataclass(frozen=True, eq=False)
class PhotoPerson:
    """A person, and the faces that show them, at most one of each photo."""

    number: int
    """From 0. The people in the most photos come first."""
    faces: tuple[PhotoFace, ...]
    """The faces in the order of the photos."""

    @property
    def best_faces(self) -> list[PhotoFace]:
        """The faces, the largest, sharpest and surest ones first. Those that the photo's edge cuts off come last."""
        return sorted(self.faces, key=lambda face: (face.is_cut_off, -face.weight))


@dataclass(frozen=True, eq=False)
class GroupedFaces:
    """The faces of many photos, grouped by person."""

    people: tuple[PhotoPerson, ...]
    is_joined: bool
    """Whether faces were compared. Else each face counts as a person."""
    notes: tuple[str, ...]
    """Notes about how faces were joined to people."""


@dataclass(eq=False)
class FaceGrouper:
    """Collects the faces of many photos, then groups them by person. Each face takes about 10 kB; photos are not kept."""

    embedder: FaceEmbedder | None
    """Without one, no faces are joined."""
    template: str
    """The alignment of the thumbnails, see `RestoreOptions.template`."""
    faces: list[PhotoFace] = field(default_factory=list)

    def add(self, photo: int, image: ImageData, faces: Sequence[Face]) -> list[PhotoFace]:
        """Add the faces of a photo, except skipped ones, and return what was added. Raises `WeightsError`."""
        added = []
        for number, face in enumerate(faces):
            thumbnail = None if face.reason else face_thumbnail(image, face.landmarks, self.template)
            if thumbnail is None:
                continue
            if self.embedder is None:
                embedding, weight = None, face.score * face.shorter_side
            else:
                embedding, weight = embed_with_weight(self.embedder, image, face) or (None, 0.0)
            x0, y0, x1, y1 = face.box
            is_cut_off = x0 < 0 or y0 < 0 or x1 > image.width or y1 > image.height
            jpeg = encode_thumbnail(thumbnail)
            added.append(PhotoFace(photo, number, face.box, face.score, weight, is_cut_off, embedding, jpeg))
        self.faces += added
        return added

    def group(self) -> GroupedFaces:
        """Group the faces by person. See `cluster_photos`."""
        labels, left_out = list(range(len(self.faces))), 0
        if self.embedder is not None:
            compared = [n for n, face in enumerate(self.faces) if face.embedding is not None]
            chosen = [self.faces[n] for n in compared]
            embeddings = [face.embedding for face in chosen if face.embedding is not None]
            weights, photos = [face.weight for face in chosen], [face.photo for face in chosen]
            found, left_out = cluster_photos(embeddings, weights, photos, self.embedder.join_threshold)
            for n, label in zip(compared, found):
                labels[n] = compared[label]
        groups: dict[int, list[PhotoFace]] = {}
        for label, face in zip(labels, self.faces):
            groups.setdefault(label, []).append(face)
        ordered = sorted(groups.values(), key=lambda faces: -len(faces))  # stable: else in the order of the photos
        people = tuple(PhotoPerson(number, tuple(faces)) for number, faces in enumerate(ordered))
        return GroupedFaces(people, self.embedder is not None, tuple(self._notes(left_out)))

    def _notes(self, left_out: int) -> list[str]:
        unsure = sum(face.weight == 0 for face in self.faces)
        notes = []
        if unsure:
            notes.append(f"{pluralize(unsure, 'face')} too small or too blurry to compare: each has a number of its own")
        if left_out:
            notes.append(
                f"{pluralize(left_out, 'face')} not compared, because too many are alike: each has a number of its own. "
                "List fewer images at a time"
            )
        return notes


def not_joined_text(place: str) -> str:
    """Return the note for `join_people` without the embedder. `place` is a part of the input, such as `shot`."""
    return (
        f"a person may have another number in each {place}, because SFace is not downloaded. To give each person one "
        "number, run: gpen download sface"
    )


def encode_thumbnail(thumbnail: RGB8) -> bytes:
    """Return a thumbnail as a JPEG file."""
    return codecs.encode_array(thumbnail, "JPEG", quality=THUMBNAIL_QUALITY)


def choose_references(thumbnails: Sequence[bytes], detect: DetectFaces) -> list[bytes]:
    """Return the thumbnails that can serve as a reference of a person, at most `MAX_REFERENCES`, as JPEG files.

    They show one face that is found. If a neighbor is found, too, the thumbnail is trimmed. `thumbnails` are JPEG files, the
    best first."""
    chosen: list[bytes] = []
    for data in thumbnails[:MAX_TRIED]:
        whole = to_rgb8(codecs.decode(data).image)
        for share in TRIMS:
            margin = round((1 - share) / 2 * len(whole))
            trimmed = whole[margin : len(whole) - margin, margin : len(whole) - margin]
            if len(usable_faces(from_array(trimmed), detect)) == 1:
                chosen.append(data if share == 1 else encode_thumbnail(trimmed))
                break
        if len(chosen) == MAX_REFERENCES:
            break
    return chosen

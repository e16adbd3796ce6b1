"""The state of one image while it is restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from ..faces import swap_detection
from ..faces.align import Alignment, align_face, crop_face, full_square, square_face
from ..faces.blend import Canvas, blur_small_face
from ..faces.color import photo_residual
from ..faces.face import Box, Face, Landmarks
from ..faces.identity import FaceEmbedder, PersonMatch, embed_face
from ..faces.select import (
    ZERO_STRENGTH,
    flag_implausible,
    matches_box,
    missing_numbers,
    person_notes,
    select_faces,
    skip_outside_boxes,
    sort_faces,
)
from ..images.image import FloatImage, ImageData
from ..images.size_limits import NO_LIMITS, ReadLimits
from ..options import RestoreOptions
from .inputs import RestoreInput, resize_mask, scale_factor, validate_box
from .people import People, with_identity
from .source_file import SourceFile, load_encoded

# Crop size in pixels to measure a face's square before its network is selected. The template is offset by half a pixel of
# the crop, so a much smaller crop would shift the square.
PROBE_SIZE = 512


class RestoreSession:
    """The state of one image while it is restored: its images, its faces and the canvas."""

    def __init__(
        self,
        restore_input: RestoreInput,
        options: RestoreOptions,
        people: People | None = None,
        limits: ReadLimits = NO_LIMITS,
    ) -> None:
        """`people` are those whom the options choose or leave out by references."""
        self.options = options
        self.people = people
        load = partial(load_encoded, limits=limits)
        encoded = load(restore_input.image)
        self.image = encoded.image
        self.crop_image = encoded.image
        """The image from which faces are cropped for the network."""
        self.before_swap = None if restore_input.before_swap is None else load(restore_input.before_swap).image
        background = None if restore_input.background is None else load(restore_input.background)
        self.source_file = SourceFile.of(background or encoded)
        target = (background or encoded).image
        self.background_scale = (1.0, 1.0) if background is None else scale_factor(self.image.size, target.size)
        region_mask, boxes = restore_input.region_mask, restore_input.boxes
        self.canvas = Canvas(target, None if region_mask is None else resize_mask(region_mask, target.size))
        self.boxes = None if boxes is None else [validate_box(number, box) for number, box in enumerate(boxes)]
        self.is_aligned = restore_input.is_aligned
        self.faces: list[Face] = []
        self.notes: list[str] = []

    @cached_property
    def photo_residual(self) -> float:
        """See `color.photo_residual`. Infinite unless the option `color` is `auto`."""
        return photo_residual(self.image) if self.options.color == "auto" else math.inf

    def set_detections(self, detections: Sequence[Face]) -> None:
        """Number and select the detected faces. Skipped faces get a reason."""
        options = self.options
        if self.is_aligned:
            detections = [square_face(self.image, options.template)]
        faces = self._skip_unchanged(flag_implausible(sort_faces(detections, options.order)))
        faces = self._skip_outside_boxes(faces)
        self.notes += missing_numbers(options.faces, len(faces))
        faces = [self._skip_outside_region(face) for face in faces]
        faces, matches = self._match_people(faces)
        faces = select_faces(faces, self.image.size, options, matches)
        if options.strength == 0:
            faces = [replace(face, reason=face.reason or ZERO_STRENGTH) for face in faces]
        self.faces = faces

    def alignments(self, size_for: Callable[[float], int]) -> list[tuple[int, Alignment, Alignment]]:
        """Return for each face to restore its number, its alignment in the image, and its alignment in the target.

        The target is the background, else the image. `size_for` returns the crop's side for the side of the face's square
        in the target, both in pixels. Faces that cannot be aligned are skipped with a reason."""
        todo = []
        for n, face in enumerate(self.faces):
            if face.reason is not None:
                continue
            placement = self._source_and_target(face.landmarks, PROBE_SIZE)
            if not isinstance(placement, str):
                placement = self._source_and_target(face.landmarks, size_for(placement[1].side))
            if isinstance(placement, str):
                self.skip(n, placement)
            else:
                todo.append((n, *placement))
        return todo

    def _source_and_target(self, landmarks: Landmarks, size: int) -> tuple[Alignment, Alignment] | str:
        """Return the alignments of a face in the image and in the target, or the reason why there is none."""

        def align(points: Landmarks, image: ImageData) -> Alignment | str:
            return full_square(image.width, size) if self.is_aligned else align_face(points, size, self.options.template)

        alignment = align(landmarks, self.image)
        if isinstance(alignment, str):
            return alignment
        if alignment.source_region(*self.image.size).empty:
            return "it is outside the image"
        if self.background_scale == (1.0, 1.0):
            return alignment, alignment
        target = align(self._to_background(landmarks), self.canvas.original)
        # It may have no alignment only there, because the aspect ratio of the background may differ slightly.
        return f"in the background {target}" if isinstance(target, str) else (alignment, target)

    def skip(self, number: int, reason: str) -> None:
        self.faces[number] = replace(self.faces[number], reason=reason)

    def width_ratio(self, number: int, alignment: Alignment) -> float:
        """The width of the face as a fraction of the side of its square."""
        return 1.0 if self.is_aligned else min(1.0, self.faces[number].width * alignment.scale / alignment.size)

    def crop(self, alignment: Alignment) -> FloatImage:
        return crop_face(self.crop_image, alignment)

    def paste(
        self,
        number: int,
        crop: FloatImage,
        mask: FloatImage | None,
        target: Alignment,
        note: str | None,
        strength: float,
    ) -> None:
        """Blend a restored crop into the image or its background at `target`, see `Canvas.paste`. Small faces are blurred
        first."""
        self.canvas.paste(blur_small_face(crop, self.faces[number]), mask, target, strength, self.options.grain)
        self.mark_restored(number, crop.shape[0], note)

    def mark_restored(self, number: int, network_size: int, note: str | None) -> None:
        """Record that a face was restored by the network of that size."""
        self.faces[number] = replace(self.faces[number], restored=True, note=note, network=network_size)

    def measure_identity(self, embedder: FaceEmbedder) -> None:
        """Set the similarity of each restored face to its input, and to the people of the options."""
        for n, face in enumerate(self.faces):
            if face.restored:
                before = embed_face(embedder, self.image, face.landmarks)
                after = embed_face(embedder, self.canvas.result, self._to_background(face.landmarks))
                self.faces[n] = with_identity(face, self.people, before, after)

    def _to_background(self, points: Landmarks) -> Landmarks:
        """Convert points from the image to the background. Integer coordinates are pixel centers."""
        return np.asarray((points + 0.5) * self.background_scale - 0.5, np.float64)

    def _skip_unchanged(self, faces: list[Face]) -> list[Face]:
        if self.before_swap is None:
            return faces
        changes = swap_detection.face_differences(self.before_swap, self.image, faces)
        return [_with_change(face, change) for face, change in zip(faces, changes)]

    def _skip_outside_boxes(self, faces: list[Face]) -> list[Face]:
        """Skip the faces outside all boxes, and note the boxes without a face."""
        if self.boxes is None:
            return faces
        self.notes += [
            f"no face was found in box {n} ({', '.join(f'{v:g}' for v in box)}){_box_problem(box)}"
            for n, box in enumerate(self.boxes)
            if not any(matches_box(face.box, box) for face in faces)
        ]
        return skip_outside_boxes(faces, self.boxes)

    def _match_people(self, faces: list[Face]) -> tuple[list[Face], list[PersonMatch | None]]:
        """Return the faces with their similarity to the people of the options, and which person each is. Without people,
        there are no matches."""
        if self.people is None:
            return faces, []
        matches = self.people.match(self.image, faces)
        self.notes += person_notes(matches)
        with_similarity = [
            face if match is None else replace(face, similarity=match.wanted_similarity)
            for face, match in zip(faces, matches)
        ]
        return with_similarity, matches

    def _skip_outside_region(self, face: Face) -> Face:
        region_mask = self.canvas.region_mask
        if region_mask is None or face.reason is not None or not np.isfinite(face.box).all():
            return face
        (x0, y0), (x1, y1) = np.array([face.box[:2], face.box[2:]]) * self.background_scale
        rows = slice(max(0, int(y0)), max(0, int(np.ceil(y1))))
        columns = slice(max(0, int(x0)), max(0, int(np.ceil(x1))))
        return face if region_mask[rows, columns].any() else replace(face, reason="outside the mask")


def _box_problem(box: Box) -> str:
    """Return why no face can be in the box, such as one given as x, y, width and height. Empty if one could be."""
    x0, y0, x1, y1 = box
    return "" if x0 < x1 and y0 < y1 else ", which is empty: expected x0, y0, x1, y1 with x0 < x1 and y0 < y1"


def _with_change(face: Face, change: float) -> Face:
    if not np.isfinite(change):  # its landmarks are implausible: `align_face` reports it later
        return face
    reason = face.reason
    if reason is None and change < swap_detection.THRESHOLD:
        reason = f"not changed by the swap: {change:.3f}, {swap_detection.THRESHOLD:g} counts as changed"
    return replace(face, change=change, reason=reason)

"""One picture to restore with what goes with it, and the same at work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OptionsError
from ..faces import swap_detection
from ..faces.align import Alignment, align, extract, square_face, whole_square
from ..faces.blend import Canvas, soften_small
from ..faces.face import Box, Face, Landmarks
from ..faces.select import choose, heads, in_order, inside, inside_boxes
from ..images import codecs
from ..images.image import FloatImage, Picture, as_picture, same_shape
from ..images.resize import resize
from ..options import RestoreOptions
from ..progress import Progress
from .upscale import Upscaler, enlarge

FARTHEST = 1 << 24  # pixels, of a box's edges: OpenCV cannot cut out much larger boxes


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture to restore: a path, a PIL image, an array or a `Picture` (see `images.image.as_picture`)."""

    image: object
    before_swap: object | None = None
    """The picture before a face swap, of any size: faces that do not differ from it are left alone."""
    background: object | None = None
    """The same picture enlarged by whatever means: faces of `image` are put into it, at its scale."""
    region_mask: NDArray[np.floating] | None = None
    """[H, W] in [0, 1] of any size: how much of each pixel may be restored. Faces where it is 0 are left alone."""
    boxes: Sequence[Box] | None = None
    """x0, y0, x1, y1 in pixels of `image`: faces in none of them are left alone, and where one holds none, it is looked
    into closely."""
    is_aligned: bool = False
    """`image` is one face's square already, upright as `Alignment` cuts it: nothing is looked for, all of it is restored."""


def open_picture(image: object, max_memory: int | None = None) -> Picture:
    """As `images.image.as_picture`, and paths are read. Raises `InputError`, and `OutOfMemory` as `codecs.read` does."""
    return codecs.read(Path(image), max_memory).picture if isinstance(image, (str, PathLike)) else as_picture(image)


def enlarged(
    frame: Frame, options: RestoreOptions, upscaler: Upscaler | None, progress: Progress, max_memory: int | None = None
) -> Frame:
    """The frame with its picture enlarged as background: faces are cut from the picture as it was. See `upscale.enlarge`.

    Raises `OptionsError` where it has a background already."""
    if frame.background is not None:
        raise OptionsError(
            f"upscale is {options.upscale:g}, and there is a background, enlarged already. Give one of the two."
        )
    picture = open_picture(frame.image, max_memory)
    return replace(frame, image=picture, background=enlarge(picture, options.upscale, upscaler, progress, max_memory))


class Repair:
    """A frame at work: its pictures, its faces and what has been put back."""

    def __init__(self, frame: Frame, options: RestoreOptions, max_memory: int | None = None) -> None:
        self.options = options
        self.picture = open_picture(frame.image, max_memory)
        self.before_swap = None if frame.before_swap is None else open_picture(frame.before_swap, max_memory)
        background = None if frame.background is None else open_picture(frame.background, max_memory)
        self.scale = (1.0, 1.0) if background is None else scale_between(self.picture.size, background.size)
        target = background or self.picture
        self.canvas = Canvas(target, None if frame.region_mask is None else resize_mask(frame.region_mask, target.size))
        self.boxes = None if frame.boxes is None else [_box(n, box) for n, box in enumerate(frame.boxes)]
        self.is_aligned = frame.is_aligned
        self.faces: list[Face] = []
        self.notes: list[str] = []

    def take(self, found: Sequence[Face]) -> None:
        """Numbers the faces that the detector found and says of some why they are left alone."""
        options = self.options
        if self.is_aligned:
            found = [square_face(self.picture, options.template)]
        faces = self._unchanged_left(heads(in_order(found, options.order)))
        if self.boxes is not None:
            self.notes += [
                f"no face was found in box {n} ({', '.join(f'{v:g}' for v in box)})"
                for n, box in enumerate(self.boxes)
                if not any(inside(face.box, box) for face in faces)
            ]
            faces = inside_boxes(faces, self.boxes)
        faces = [self._within_region(face) for face in faces]
        faces = choose(faces, self.picture.size, options.faces, options.min_face_size, options.max_faces)
        if options.strength == 0:
            faces = [replace(face, reason=face.reason or "the strength is 0") for face in faces]
        self.faces = faces

    def alignments(self, size_for: Callable[[float], int]) -> list[tuple[int, Alignment, Alignment]]:
        """Number of each face to restore, and where it is: in the picture, and in the background or the picture again.
        Those that cannot be aligned are told why. `size_for` gives the crop's side for that of the face's square, both in
        pixels, the latter in the background or the picture."""
        todo = []
        for n, face in enumerate(self.faces):
            if face.reason is not None:
                continue
            where = self._placed(face.landmarks, 1)
            if not isinstance(where, str):
                where = self._placed(face.landmarks, size_for(where[1].side))
            if isinstance(where, str):
                self.leave(n, where)
            else:
                todo.append((n, *where))
        return todo

    def _placed(self, landmarks: Landmarks, size: int) -> tuple[Alignment, Alignment] | str:
        """Where a face is in the picture and in what it is put into, or why it has no place there."""
        alignment = align(landmarks, size, self.options.template)
        if self.is_aligned:
            alignment = whole_square(self.picture.width, size)
        if isinstance(alignment, str):
            return alignment
        if alignment.region(*self.picture.size).empty:
            return "it lies outside the picture"
        if self.scale == (1.0, 1.0):
            return alignment, alignment
        moved = align(self._scaled(landmarks), size, self.options.template)
        if self.is_aligned:
            moved = whole_square(self.canvas.original.width, size)
        # The background may be stretched a little.
        return f"in the background {moved}" if isinstance(moved, str) else (alignment, moved)

    def leave(self, number: int, reason: str) -> None:
        self.faces[number] = replace(self.faces[number], reason=reason)

    def width(self, number: int, alignment: Alignment) -> float:
        """Of the face, as a part of its square's side."""
        return 1.0 if self.is_aligned else min(1.0, self.faces[number].width * alignment.scale / alignment.size)

    def crop(self, alignment: Alignment) -> FloatImage:
        return extract(self.picture, alignment)

    def put_back(self, number: int, crop: FloatImage, mask: FloatImage | None, target: Alignment, note: str | None) -> None:
        """Blends a restored crop into the picture or its background, at `target`; see `Canvas.paste`. Of a small face it is
        softened."""
        self.canvas.paste(soften_small(crop, self.faces[number]), mask, target, self.options.strength, self.options.grain)
        self.mark_restored(number, crop.shape[0], note)

    def mark_restored(self, number: int, network: int, note: str | None) -> None:
        """Says of a face that the network of that size restored it and that it was put back."""
        self.faces[number] = replace(self.faces[number], restored=True, note=note, network=network)

    def _scaled(self, points: Landmarks) -> Landmarks:
        """Picture -> background; whole numbers are the middles of pixels."""
        return np.asarray((points + 0.5) * self.scale - 0.5, np.float64)

    def _unchanged_left(self, faces: list[Face]) -> list[Face]:
        if self.before_swap is None:
            return faces
        changes = swap_detection.changes(self.before_swap, self.picture, faces)
        return [_judged(face, change) for face, change in zip(faces, changes)]

    def _within_region(self, face: Face) -> Face:
        region_mask = self.canvas.region_mask
        if region_mask is None or face.reason is not None or not np.isfinite(face.box).all():
            return face
        (x0, y0), (x1, y1) = np.array([face.box[:2], face.box[2:]]) * self.scale
        rows = slice(max(0, int(y0)), max(0, int(np.ceil(y1))))
        columns = slice(max(0, int(x0)), max(0, int(np.ceil(x1))))
        return face if region_mask[rows, columns].any() else replace(face, reason="outside the mask")


def _box(number: int, box: Sequence[float]) -> Box:
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = math.nan
    if not all(abs(v) <= FARTHEST for v in (x0, y0, x1, y1)):  # NaN is not
        raise InputError(f"Box {number} is {box!r}; expected x0, y0, x1, y1, four finite numbers up to {FARTHEST} px.")
    return x0, y0, x1, y1


def _judged(face: Face, change: float) -> Face:
    if not np.isfinite(change):  # its landmarks are not those of a face: `align` says so later
        return face
    reason = None
    if change < swap_detection.THRESHOLD:
        reason = f"not changed by the swap: {change:.3f}, {swap_detection.THRESHOLD:g} counts as changed"
    return replace(face, change=change, reason=reason)


def scale_between(
    size: tuple[int, int], other: tuple[int, int], what: str = "background", smaller: bool = False
) -> tuple[float, float]:
    """From a picture of that width and height to the same picture of another size. Raises `InputError` for other
    proportions, and for a smaller one where that may not be."""
    told = f"The {what} is {other[0]}x{other[1]}, the picture {size[0]}x{size[1]}"
    if not same_shape(other, size):
        raise InputError(f"{told}: their proportions differ. Give the same picture enlarged.")
    if not smaller and (other[0] < size[0] or other[1] < size[1]):
        raise InputError(f"{told}: a {what} may not be smaller. Give the same picture enlarged.")
    return other[0] / size[0], other[1] / size[1]


def resize_mask(mask: NDArray[np.floating], size: tuple[int, int]) -> FloatImage:
    """A mask [h, w] in [0, 1] of any size over a whole picture, or a crop, of that width and height, at its size.

    Raises `InputError` for what is no mask."""
    if mask.ndim != 2 or 0 in mask.shape or not np.isfinite(mask).all():
        raise InputError(f"Expected a mask [H, W] of finite numbers from 0 to 1, got {mask.dtype} {list(mask.shape)}.")
    return resize(np.clip(mask.astype(np.float32), 0, 1), size)

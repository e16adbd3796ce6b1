"""The inputs of one image, and the session that restores it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError, OptionsError
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
from ..images.image import MAX_VALUES, FloatImage, ImageData, same_aspect_ratio
from ..images.resize import resize
from ..images.resized_metadata import with_dimensions
from ..options import RestoreOptions
from ..progress import Progress
from .people import People, with_identity
from .source_file import SourceFile, load_encoded
from .upscale import Upscaler, upscale

MAX_FLOAT_MASK = 1.5  # more is not a rounding error, but a mask from 0 to 255
MAX_REPR = 60  # characters
MAX_CHANNELS = 4  # RGBA
MAX_COORDINATE = 1 << 24  # pixels, for the edges of a box: OpenCV cannot crop much larger ones
# Crop size in pixels to measure a face's square before its network is selected. The template is offset by half a pixel of
# the crop, so a much smaller crop would shift the square.
PROBE_SIZE = 512


@dataclass(frozen=True, eq=False)
class RestoreInput:
    """One image to restore: a path, the bytes of a file, a file open in binary mode, a PIL image, an array or an
    `ImageData` (see `images.image.to_image_data`)."""

    image: object
    before_swap: object | None = None
    """The image before a face swap, of any size. Faces that do not differ from it are skipped."""
    background: object | None = None
    """An upscaled copy of `image`. Faces are detected in `image` and pasted into the background at its scale."""
    region_mask: NDArray[Any] | None = None
    """[H, W] of any size: how much of each pixel may be restored. Faces where it is 0 are skipped. Floats are in [0, 1].
    Integers range from 0 to the maximum of their type (uint8: 255), or are 0 and 1."""
    boxes: Sequence[Box] | None = None
    """x0, y0, x1, y1 in pixels of `image`. Faces outside all boxes are skipped. A box without a face is searched again at a
    higher resolution."""
    is_aligned: bool = False
    """Whether `image` is already an upright crop of one face, as `Alignment` makes it. Then detection is skipped."""

    def __repr__(self) -> str:
        given = [name for name in ("before_swap", "background", "region_mask", "boxes") if getattr(self, name) is not None]
        given += ["is_aligned"] if self.is_aligned else []
        return f"RestoreInput({', '.join([describe_image(self.image), *given])})"


def to_inputs(images: Iterable[object]) -> list[RestoreInput]:
    """Return a `RestoreInput` for each image, which may be one. Raises `InputError` for a single image."""
    raise_if_single(images)
    return [one if isinstance(one, RestoreInput) else RestoreInput(one) for one in images]


def raise_if_single(images: object) -> None:
    """Raise `InputError` for one image in place of several. Its letters, bytes or rows would be taken for images."""
    is_rows = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] <= MAX_CHANNELS
    if is_rows or isinstance(images, (str, bytes, bytearray, memoryview, PathLike, Image.Image, RestoreInput)):
        raise InputError(f"Expected a list of images, got one ({describe_image(images)}). Put it into a list.")


def describe_image(image: object) -> str:
    """Describe an image in one line: a path, or a size."""
    if isinstance(image, (str, PathLike)):
        return repr(str(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"{len(image):,} bytes"
    if isinstance(image, np.ndarray):
        return f"{image.dtype} array {list(image.shape)}"
    text = repr(image)
    return text if len(text) <= MAX_REPR else type(image).__name__


def load_image(image: object, max_memory: int | None = None, max_pixels: int | None = None) -> ImageData:
    """The same as `load_encoded`, but without metadata."""
    return load_encoded(image, max_memory, max_pixels).image


def with_upscaled_background(
    restore_input: RestoreInput,
    options: RestoreOptions,
    upscaler: Upscaler | None,
    progress: Progress,
    max_memory: int | None = None,
    max_pixels: int | None = None,
) -> RestoreInput:
    """Return the input with its upscaled image as background. Faces are still cropped from the original image.

    See `pipeline.upscale`. Raises `OptionsError` if it already has a background."""
    if restore_input.background is not None:
        raise OptionsError(
            f"upscale is {options.upscale:g}, but a background is given, which is already upscaled. Use one of them."
        )
    encoded = load_encoded(restore_input.image, max_memory, max_pixels)
    upscaled = upscale(encoded.image, options.upscale, upscaler, progress, max_memory)
    metadata = with_dimensions(encoded.metadata, upscaled.size)
    return replace(restore_input, image=encoded, background=replace(encoded, image=upscaled, metadata=metadata, data=b""))


class RestoreSession:
    """The state of one image while it is restored: its images, its faces and the canvas."""

    def __init__(
        self,
        restore_input: RestoreInput,
        options: RestoreOptions,
        max_memory: int | None = None,
        people: People | None = None,
        max_pixels: int | None = None,
    ) -> None:
        """`people` are those whom the options choose or leave out by references."""
        self.options = options
        self.people = people
        load = partial(load_encoded, max_memory=max_memory, max_pixels=max_pixels)
        encoded = load(restore_input.image)  # later replaced by the background, whose metadata the result gets
        self.image = encoded.image
        self.crop_image = encoded.image
        """The image from which faces are cropped for the network."""
        self.before_swap = None if restore_input.before_swap is None else load(restore_input.before_swap).image
        if restore_input.background is not None:
            encoded = load(restore_input.background)
        background = None if restore_input.background is None else encoded.image
        self.source_file = SourceFile.of(encoded)
        self.background_scale = (1.0, 1.0) if background is None else scale_factor(self.image.size, background.size)
        target = background or self.image
        self.canvas = Canvas(
            target, None if restore_input.region_mask is None else resize_mask(restore_input.region_mask, target.size)
        )
        self.boxes = (
            None if restore_input.boxes is None else [_validate_box(n, box) for n, box in enumerate(restore_input.boxes)]
        )
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
        if self.boxes is not None:
            self.notes += [
                f"no face was found in box {n} ({', '.join(f'{v:g}' for v in box)})"
                for n, box in enumerate(self.boxes)
                if not any(matches_box(face.box, box) for face in faces)
            ]
            faces = skip_outside_boxes(faces, self.boxes)
        self.notes += missing_numbers(options.faces, len(faces))
        faces = [self._skip_outside_region(face) for face in faces]
        matches: list[PersonMatch | None] = []
        if self.people is not None:
            matches = self.people.match(self.image, faces)
            self.notes += person_notes(matches)
            faces = [
                face if match is None else replace(face, similarity=match.wanted_similarity)
                for face, match in zip(faces, matches)
            ]
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

    def _skip_outside_region(self, face: Face) -> Face:
        region_mask = self.canvas.region_mask
        if region_mask is None or face.reason is not None or not np.isfinite(face.box).all():
            return face
        (x0, y0), (x1, y1) = np.array([face.box[:2], face.box[2:]]) * self.background_scale
        rows = slice(max(0, int(y0)), max(0, int(np.ceil(y1))))
        columns = slice(max(0, int(x0)), max(0, int(np.ceil(x1))))
        return face if region_mask[rows, columns].any() else replace(face, reason="outside the mask")


def _validate_box(number: int, box: Sequence[float]) -> Box:
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = math.nan
    if not all(abs(v) <= MAX_COORDINATE for v in (x0, y0, x1, y1)):  # NaN is not
        raise InputError(f"Box {number} is {box!r}; expected x0, y0, x1, y1, four finite numbers up to {MAX_COORDINATE} px.")
    return x0, y0, x1, y1


def _with_change(face: Face, change: float) -> Face:
    if not np.isfinite(change):  # its landmarks are implausible: `align_face` reports it later
        return face
    reason = face.reason
    if reason is None and change < swap_detection.THRESHOLD:
        reason = f"not changed by the swap: {change:.3f}, {swap_detection.THRESHOLD:g} counts as changed"
    return replace(face, change=change, reason=reason)


def scale_factor(
    size: tuple[int, int], other_size: tuple[int, int], noun: str = "background", allow_smaller: bool = False
) -> tuple[float, float]:
    """Return the horizontal and vertical scale from an image size to another size of the same image.

    Raises `InputError` for another aspect ratio, and for a smaller size unless `allow_smaller`."""
    message = f"The {noun} is {other_size[0]}x{other_size[1]}, the image {size[0]}x{size[1]}"
    if not same_aspect_ratio(other_size, size):
        raise InputError(f"{message}: their aspect ratios differ. Use a copy of the same image.")
    if not allow_smaller and (other_size[0] < size[0] or other_size[1] < size[1]):
        raise InputError(f"{message}: a {noun} must not be smaller. Use an upscaled copy of the same image.")
    return other_size[0] / size[0], other_size[1] / size[1]


def resize_mask(mask: NDArray[Any], size: tuple[int, int]) -> FloatImage:
    """Resize a mask [h, w] to a width and height, with values in [0, 1]. Its values are as in `RestoreInput.region_mask`.

    Raises `InputError` for an invalid mask."""
    mask = np.asarray(mask)
    mask = mask.astype(mask.dtype.newbyteorder("="), copy=False)
    if mask.ndim != 2 or 0 in mask.shape or mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
        raise InputError(f"Expected a mask [H, W] of finite numbers from 0 to 1, got {mask.dtype} {list(mask.shape)}.")
    return resize(np.clip(mask.astype(np.float32) / _mask_maximum(mask), 0, 1), size)


def _mask_maximum(mask: NDArray[Any]) -> float:
    """Return the value that means 1."""
    highest = float(mask.max())
    if highest <= 1 or (mask.dtype.kind == "f" and highest <= MAX_FLOAT_MASK):
        return 1.0
    if mask.dtype not in MAX_VALUES:
        raise InputError(f"The mask's values reach {highest:g}; expected at most 1 for {mask.dtype}. Divide them first.")
    return MAX_VALUES[mask.dtype]

"""Crop faces upright, for any processing, and paste them back into their image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, oom_context
from ..faces import mask as masks
from ..faces.align import Alignment, align_face, crop_face, full_square
from ..faces.blend import Canvas
from ..faces.face import Face, faces_text
from ..faces.postprocess import build_mask
from ..images.image import FloatImage, ImageData, from_array
from ..images.resize import resize
from ..options import RestoreOptions
from ..options.spec import check_range
from ..progress import Progress, no_progress, pluralize
from .inputs import load_image, resize_mask, scale_factor
from .no_face import NO_FACE, no_face_advice
from .restorer import FaceRestorer

# Differences of a crop's values from the image. Below the first, they may be 8-bit rounding and count as unchanged. Above
# the second, the pixel counts as fully changed.
UNCHANGED_BELOW, CHANGED_ABOVE = 1 / 255, 3 / 255


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """The position of a cropped face in its image, and its mask."""

    face: Face
    number: int
    """The number of the face in its image."""
    alignment: Alignment
    template: str
    image_size: tuple[int, int]
    """Width and height of the image in which the face was detected."""
    mask: FloatImage
    """[512, 512] in [0, 1] over the crop's square."""
    is_aligned: bool = False
    """Whether the image was already a face crop, see `RestoreInput.is_aligned`."""

    def __repr__(self) -> str:
        return f"FaceCrop({self.number}, {self.face!r})"

    def alignment_in(self, image: ImageData) -> Alignment | str:
        """The alignment in the same image at any size, or the reason why it has none there."""
        if image.size == self.image_size:
            return self.alignment
        scale = np.array(scale_factor(self.image_size, image.size, "image", allow_smaller=True))
        if self.is_aligned:
            return full_square(image.width, self.alignment.size)
        return align_face((self.face.landmarks + 0.5) * scale - 0.5, self.alignment.size, self.template)


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """The faces of one image."""

    faces: tuple[Face, ...]
    """All detected faces. `reason` says why one was skipped."""
    crops: tuple[FaceCrop, ...]
    pixels: tuple[FloatImage, ...]
    """[size, size, 3] RGB in [0, 1] of each crop."""
    smallest_face: float
    """Approximate size in pixels of the smallest face that is detectable at this detection size."""
    largest_face: float
    """Approximate size in pixels of the largest detectable face."""
    notes: tuple[str, ...] = ()
    """Remarks, for example on boxes without a face."""

    def __repr__(self) -> str:
        return f"FaceCrops({self._counts})"

    @property
    def summary(self) -> str:
        """One line: `3 faces found, 2 cropped, 1 skipped`. Without a face, the detectable sizes and advice."""
        return self._counts if self.faces else f"{NO_FACE}; {no_face_advice(self.smallest_face, self.largest_face)}"

    @property
    def _counts(self) -> str:
        return faces_text(len(self.faces), len(self.crops), done="cropped")


@oom_context("these images", "choose a smaller detection size")
def crop_faces(
    restorer: FaceRestorer,
    inputs: Iterable[object],
    options: RestoreOptions | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> list[FaceCrops]:
    """Crop the selected faces of each image as upright squares of `size` pixels (None: size of the largest network).

    Each input is a `RestoreInput`, or a value for its field `image`. Faces are not restored. They are selected and masked
    as in `FaceRestorer.restore_batch`, and the errors are the same except those of the network. The options that change
    restored faces are not used: `strength`, `color`, `fidelity`, `grain` and `min_identity`. Raises `OptionsError` for a
    `size` below 1."""
    if size is not None:
        check_range("size", size, 1, whole=True)
    options = replace(RestoreOptions.or_default(options), strength=1.0)  # at 0, no face would be selected
    side = restorer.sizes[-1] if size is None else int(size)
    mask_models = restorer.models.mask_models(options, progress or no_progress)
    results = []
    for session in restorer.start_sessions(inputs, options, progress):
        crops, pixels = [], []
        for number, alignment, _ in session.alignments(lambda _: side):
            pixels.append(session.crop(alignment))
            width = session.width_ratio(number, alignment)
            mask = build_mask(options, mask_models, pixels[-1], pixels[-1], width, session.is_aligned)
            mask = masks.square_mask() if mask is None else mask
            face = session.faces[number]
            crop = FaceCrop(face, number, alignment, options.template, session.image.size, mask, session.is_aligned)
            crops.append(crop)
        sizes = restorer.detector.detectable_sizes(session.image, options.detection_size)
        results.append(FaceCrops(tuple(session.faces), tuple(crops), tuple(pixels), *sizes, tuple(session.notes)))
    return results


@dataclass(frozen=True, eq=False)
class PasteResult:
    """An image with pasted faces."""

    image_data: ImageData
    """The result. If nothing changed, it is the input itself; do not write to it."""
    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each pixel comes from the crops."""
    skipped: tuple[str, ...]
    """The crops that were not pasted, with their reasons."""

    def __repr__(self) -> str:
        return f"PasteResult({self.image_data!r}, {len(self.skipped)} skipped)"


def paste_faces(
    image: object,
    crops: Sequence[FaceCrop],
    pixels: Sequence[NDArray[Any]],
    crop_masks: Sequence[NDArray[np.floating] | None] | None = None,
    strength: float = 1.0,
    region_mask: NDArray[np.floating] | None = None,
) -> PasteResult:
    """Paste processed crops into their image, or into an enlarged or reduced copy of it.

    `pixels` are the processed crops: RGB of 8 or 16 bits or float in [0, 1], square, of any size. Pixels of a crop that
    equal the image change nothing. `crop_masks` [h, w] replace the masks of the crops, and `region_mask` [H, W] is
    multiplied into each. Raises `InputError` if numbers, shapes or values do not match, and `OptionsError` for a `strength`
    that is not from 0 to 1."""
    check_range("strength", strength, 0, 1)
    if len(pixels) != len(crops) or (crop_masks is not None and len(crop_masks) != len(crops)):
        counts = pluralize(len(pixels), "crop") + (
            "" if crop_masks is None else f" and {pluralize(len(crop_masks), 'mask')}"
        )
        raise InputError(f"Got {counts} for {pluralize(len(crops), 'face')}. Pass one for each face.")
    image_data = load_image(image)
    canvas = Canvas(image_data, None if region_mask is None else resize_mask(region_mask, image_data.size))
    skipped = []
    for crop, edited, own_mask in zip(crops, pixels, crop_masks or [None] * len(crops)):
        target = crop.alignment_in(image_data)
        if isinstance(target, str):
            skipped.append(f"face {crop.number}: {target}")
            continue
        restored = _validate_crop(edited)
        mask = crop.mask if own_mask is None else resize_mask(own_mask, (masks.MASK_SIZE, masks.MASK_SIZE))
        canvas.paste(restored, mask * _change_mask(image_data, target, restored, mask.shape[0]), target, strength)
    return PasteResult(canvas.result, canvas.mask, tuple(skipped))


def _validate_crop(pixels: NDArray[Any]) -> FloatImage:
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] < 3 or 0 in pixels.shape:
        raise InputError(f"Expected a square crop [S, S, 3], got {list(pixels.shape)}. Resize crops without cropping them.")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError("A crop has non-finite values (NaN or infinity). Check how it was processed.")
    crop = from_array(pixels)
    return np.ascontiguousarray(crop.crop_rgb(crop.full_region))


def _change_mask(image: ImageData, target: Alignment, crop: FloatImage, size: int) -> FloatImage:
    """[size, size] in [0, 1]: where the crop differs from the image, with soft edges."""
    side = crop.shape[0]
    before = resize(crop_face(image, target), (side, side))
    difference = np.abs(crop - before).max(axis=2)
    change = np.clip((difference - UNCHANGED_BELOW) / (CHANGED_ABOVE - UNCHANGED_BELOW), 0, 1)
    kernel_size = max(3, side // 64) | 1
    change = cv2.blur(cv2.dilate(change, np.ones((kernel_size, kernel_size), np.uint8)), (kernel_size, kernel_size))
    return resize(np.asarray(change, np.float32), (size, size))

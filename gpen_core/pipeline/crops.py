"""Faces taken out upright, worked on by whatever means, and put back where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, oom_context
from ..faces import mask as masks
from ..faces.align import Alignment, align_face, crop_face
from ..faces.blend import Canvas
from ..faces.face import Face
from ..faces.postprocess import build_mask
from ..images.image import FloatImage, ImageData
from ..images.resize import resize
from ..options import RestoreOptions
from ..progress import Progress, no_progress
from .inputs import RestoreInput, load_image, resize_mask, scale_factor
from .restorer import FaceRestorer

# Of a crop's values: what differs by less may be rounding to 8 bits, and counts as untouched; by more than the second, it is
# new altogether.
UNCHANGED_BELOW, CHANGED_ABOVE = 1 / 255, 3 / 255


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """Where a face was taken from, and how much of its square belongs to it."""

    face: Face
    number: int
    """Of the face in its image."""
    alignment: Alignment
    template: str
    image_size: tuple[int, int]
    """Width and height of the image that it was found in."""
    mask: FloatImage
    """[512, 512] in [0, 1] over the crop's square."""

    def alignment_in(self, image: ImageData) -> Alignment | str:
        """Its place in the same image of any size, or why it has none there."""
        if image.size == self.image_size:
            return self.alignment
        scale = np.array(scale_factor(self.image_size, image.size, "image", allow_smaller=True))
        return align_face((self.face.landmarks + 0.5) * scale - 0.5, self.alignment.size, self.template)


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """One image's faces."""

    faces: tuple[Face, ...]
    """Every face found; `reason` says why one was not taken out."""
    crops: tuple[FaceCrop, ...]
    pixels: tuple[FloatImage, ...]
    """[size, size, 3] RGB in [0, 1] of each crop."""


@oom_context("these images", "choose a smaller detection size")
def crop_faces(
    restorer: FaceRestorer,
    inputs: Sequence[RestoreInput],
    options: RestoreOptions | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> list[FaceCrops]:
    """The chosen faces of each image as upright squares of `size` pixels (None: the largest network's), none restored.

    Faces are chosen and masked as `FaceRestorer.restore_batch` does. Raises what that raises but for the network's
    errors."""
    options = options or RestoreOptions()
    side = size or restorer.sizes[-1]
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
            crops.append(FaceCrop(face, number, alignment, options.template, session.image.size, mask))
        results.append(FaceCrops(tuple(session.faces), tuple(crops), tuple(pixels)))
    return results


@dataclass(frozen=True, eq=False)
class PasteResult:
    """An image with faces put back."""

    image_data: ImageData
    """Where nothing changed it is the input itself, not to be written to."""
    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each pixel is new."""
    skipped: tuple[str, ...]
    """Why some of the crops have no place in this image."""


def paste_faces(
    image: object,
    crops: Sequence[FaceCrop],
    pixels: Sequence[NDArray[Any]],
    crop_masks: Sequence[NDArray[np.floating] | None] | None = None,
    strength: float = 1.0,
    region_mask: NDArray[np.floating] | None = None,
) -> PasteResult:
    """Puts crops back into their image, or into the same one enlarged or reduced, as restored faces are.

    `pixels` are the crops after whatever was done to them, float RGB in [0, 1], square, of any size. Where one is what the
    image shows there already, the image stays: pasted back untouched, it changes nothing. `crop_masks` [h, w] are taken
    in place of the crops' masks, `region_mask` [H, W] is multiplied into each. Raises `InputError` for what does not fit."""
    if len(pixels) != len(crops) or (crop_masks is not None and len(crop_masks) != len(crops)):
        counts = f"{len(pixels)} crops" + ("" if crop_masks is None else f" and {len(crop_masks)} masks")
        raise InputError(f"There are {len(crops)} faces to paste, but {counts}. Each face needs its own.")
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
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] < 3:
        raise InputError(f"Expected a square crop [S, S, 3], got {list(pixels.shape)}. Scale crops without cutting them.")
    if not np.isfinite(pixels).all():
        raise InputError("A crop has values that are not finite. Look at what was done to it.")
    return np.ascontiguousarray(np.clip(pixels[..., :3].astype(np.float32), 0, 1))


def _change_mask(image: ImageData, target: Alignment, crop: FloatImage, size: int) -> FloatImage:
    """[size, size] in [0, 1]: where the crop differs from what the image shows there, and softly around it."""
    side = crop.shape[0]
    before = resize(crop_face(image, target), (side, side))
    difference = np.abs(crop - before).max(axis=2)
    change = np.clip((difference - UNCHANGED_BELOW) / (CHANGED_ABOVE - UNCHANGED_BELOW), 0, 1)
    kernel_size = max(3, side // 64) | 1
    change = cv2.blur(cv2.dilate(change, np.ones((kernel_size, kernel_size), np.uint8)), (kernel_size, kernel_size))
    return resize(np.asarray(change, np.float32), (size, size))

"""Faces taken out upright, worked on by whatever means, and put back where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, memory_for
from ..faces import mask as masks
from ..faces.align import Alignment, align, extract
from ..faces.blend import Canvas
from ..faces.face import Face
from ..faces.postprocess import mask_of
from ..images.image import FloatImage, Picture
from ..images.resize import resize
from ..options import RestoreOptions
from ..progress import Progress, no_progress
from .inputs import Frame, open_picture, resize_mask, scale_between
from .restorer import FaceRestorer

# Of a crop's values: what differs by less may be rounding to 8 bits, and counts as untouched; by more than the second, it is
# new altogether.
UNTOUCHED, NEW = 1 / 255, 3 / 255


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """Where a face was taken from, and how much of its square belongs to it."""

    face: Face
    number: int
    """Of the face in its picture."""
    alignment: Alignment
    template: str
    picture_size: tuple[int, int]
    """Width and height of the picture that it was found in."""
    mask: FloatImage
    """[512, 512] in [0, 1] over the crop's square."""

    def in_picture(self, picture: Picture) -> Alignment | str:
        """Its place in the same picture of any size, or why it has none there."""
        if picture.size == self.picture_size:
            return self.alignment
        scale = np.array(scale_between(self.picture_size, picture.size, "image", smaller=True))
        return align((self.face.landmarks + 0.5) * scale - 0.5, self.alignment.size, self.template)


@dataclass(frozen=True, eq=False)
class Cropped:
    """One picture's faces."""

    faces: tuple[Face, ...]
    """Every face found; `reason` says why one was not taken out."""
    crops: tuple[FaceCrop, ...]
    pixels: tuple[FloatImage, ...]
    """[size, size, 3] RGB in [0, 1] of each crop."""


@memory_for("these pictures", "choose a smaller detection size")
def crop_faces(
    restorer: FaceRestorer,
    frames: Sequence[Frame],
    options: RestoreOptions | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> list[Cropped]:
    """The chosen faces of each picture as upright squares of `size` pixels (None: the largest network's), none restored.

    Faces are chosen and masked as `FaceRestorer.restore_all` does. Raises what that raises but for the network's errors."""
    options = options or RestoreOptions()
    side = size or restorer.sizes[-1]
    masking = restorer.models.masking(options, progress or no_progress)
    found = []
    for repair in restorer.find(frames, options, progress):
        crops, pixels = [], []
        for number, alignment, _ in repair.alignments(lambda _: side):
            pixels.append(repair.crop(alignment))
            width = repair.width(number, alignment)
            mask = mask_of(options, masking, pixels[-1], pixels[-1], width, repair.is_aligned)
            mask = masks.feather() if mask is None else mask
            face = repair.faces[number]
            crops.append(FaceCrop(face, number, alignment, options.template, repair.picture.size, mask))
        found.append(Cropped(tuple(repair.faces), tuple(crops), tuple(pixels)))
    return found


@dataclass(frozen=True, eq=False)
class Pasted:
    """A picture with faces put back."""

    picture: Picture
    """Where nothing changed it is the input itself, not to be written to."""
    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each pixel is new."""
    left_out: tuple[str, ...]
    """Why some of the crops have no place in this picture."""


def paste_faces(
    image: object,
    crops: Sequence[FaceCrop],
    pixels: Sequence[NDArray[Any]],
    own_masks: Sequence[NDArray[np.floating] | None] | None = None,
    strength: float = 1.0,
    region_mask: NDArray[np.floating] | None = None,
) -> Pasted:
    """Puts crops back into their picture, or into the same one enlarged or reduced, as restored faces are.

    `pixels` are the crops after whatever was done to them, float RGB in [0, 1], square, of any size. Where one is what the
    picture shows there already, the picture stays: pasted back untouched, it changes nothing. `own_masks` [h, w] are taken
    in place of the crops' masks, `region_mask` [H, W] is multiplied into each. Raises `InputError` for what does not fit."""
    if len(pixels) != len(crops) or (own_masks is not None and len(own_masks) != len(crops)):
        counts = f"{len(pixels)} crops" + ("" if own_masks is None else f" and {len(own_masks)} masks")
        raise InputError(f"There are {len(crops)} faces to put back, but {counts}. Each face needs its own.")
    picture = open_picture(image)
    canvas = Canvas(picture, None if region_mask is None else resize_mask(region_mask, picture.size))
    left_out = []
    for crop, edited, own in zip(crops, pixels, own_masks or [None] * len(crops)):
        target = crop.in_picture(picture)
        if isinstance(target, str):
            left_out.append(f"face {crop.number}: {target}")
            continue
        new = _checked(edited)
        mask = crop.mask if own is None else resize_mask(own, (masks.MASK_SIZE, masks.MASK_SIZE))
        canvas.paste(new, mask * _touched(picture, target, new, mask.shape[0]), target, strength)
    return Pasted(canvas.result, canvas.mask, tuple(left_out))


def _checked(pixels: NDArray[Any]) -> FloatImage:
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] < 3:
        raise InputError(f"Expected a square crop [S, S, 3], got {list(pixels.shape)}. Scale crops without cutting them.")
    if not np.isfinite(pixels).all():
        raise InputError("A crop has values that are not finite. Look at what was done to it.")
    return np.ascontiguousarray(np.clip(pixels[..., :3].astype(np.float32), 0, 1))


def _touched(picture: Picture, target: Alignment, new: FloatImage, size: int) -> FloatImage:
    """[size, size] in [0, 1]: where the crop differs from what the picture shows there, and softly around it."""
    side = new.shape[0]
    before = resize(extract(picture, target), (side, side))
    difference = np.abs(new - before).max(axis=2)
    touched = np.clip((difference - UNTOUCHED) / (NEW - UNTOUCHED), 0, 1)
    around = max(3, side // 64) | 1
    touched = cv2.blur(cv2.dilate(touched, np.ones((around, around), np.uint8)), (around, around))
    return resize(np.asarray(touched, np.float32), (size, size))

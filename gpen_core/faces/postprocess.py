"""Mask and colors of a restored crop before it is pasted back."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..images.image import FloatImage
from ..options import OCCLUDERS, RestoreOptions
from . import mask as masks
from . import occlusion
from .color import fit_tone, transfer_color
from .mask import MASK_SIZE, FaceParser


@dataclass(frozen=True, eq=False)
class MaskModels:
    """The parsers for the face mask and for preserved regions; None where one is not needed."""

    face_parser: FaceParser | None
    region_parser: FaceParser | None


def build_mask(
    options: RestoreOptions,
    mask_models: MaskModels,
    crop: FloatImage,
    restored: FloatImage,
    width: float,
    is_aligned: bool = False,
) -> FloatImage | None:
    """Return the mask [512, 512] of the restored crop; None uses the whole square up to its edge.

    Both crops are [S, S, 3] RGB in [0, 1]. `width` is the face's width as a fraction of the square's side. Already
    aligned crops get a mask only if the options ask for one. Running out of memory raises torch's error."""
    expand = options.mask_expand * width * MASK_SIZE
    mask = classes = None
    if mask_models.face_parser is not None and not (is_aligned and options.mask_type == "auto"):
        classes = mask_models.face_parser.parse(restored)
        mask = masks.face_mask(classes, expand)
    elif not is_aligned:
        mask = masks.square_mask(min(expand, 0.0))  # already at its largest
    regions = [region for region in options.preserve if region != OCCLUDERS]
    if regions and mask_models.region_parser is not None:
        mask = _exclude(mask, mask_models.region_parser.preserve_mask(crop, restored, regions, classes))
    return _exclude(mask, occlusion.occlusion_mask(crop, restored)) if OCCLUDERS in options.preserve else mask


def _exclude(mask: FloatImage | None, preserved: FloatImage) -> FloatImage:
    return 1 - preserved if mask is None else mask * (1 - preserved)


def tone_and_mask(
    options: RestoreOptions,
    mask_models: MaskModels,
    crop: FloatImage,
    restored: FloatImage,
    width: float,
    is_aligned: bool = False,
    is_monochrome: bool | None = None,
    photo: float = math.inf,
) -> tuple[FloatImage, FloatImage | None]:
    """Return the restored crop, in the input's tones if that is gray or sepia and the options ask for it, and its mask
    (`build_mask`).

    `is_monochrome` says whether the input is gray or sepia, if that is already known. `photo` is the
    `color.photo_residual` of the image.
    The tones are applied before the occlusion mask is computed: otherwise colors that a gray face never had would count
    as occlusion."""
    if options.color == "auto" and is_monochrome is not False:
        tone, fits = fit_tone(crop, photo)
        restored = tone.apply(restored) if fits or is_monochrome else restored
    return restored, build_mask(options, mask_models, crop, restored, width, is_aligned)


def match_color(options: RestoreOptions, crop: FloatImage, restored: FloatImage, mask: FloatImage | None) -> FloatImage:
    """Return the restored crop with the input crop's colors inside the mask, if the options ask for it."""
    return (
        transfer_color(restored, crop, masks.square_mask() if mask is None else mask)
        if options.color == "match"
        else restored
    )

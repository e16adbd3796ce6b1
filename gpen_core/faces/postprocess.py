"""What a restored crop goes through before it is put back: how much of it counts where, and its colors."""

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
    """How masks are made: by which parser the face is found, and by which the regions that stay; None where neither is."""

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
    """[512, 512]: how much of the restored crop is taken. None: all of it, to the square's edge.

    Both crops are [S, S, 3] RGB in [0, 1]; `width` is the face's, as a part of the square's side. What is
    aligned already has no mask but the one asked for. Running out of memory raises torch's error."""
    expand = options.mask_expand * width * MASK_SIZE
    mask = classes = None
    if mask_models.face_parser is not None and not (is_aligned and options.mask_type == "auto"):
        classes = mask_models.face_parser.parse(restored)
        mask = masks.face_mask(classes, expand)
    elif not is_aligned:
        mask = masks.square_mask(min(expand, 0.0))  # it reaches as far as it may already
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
    """The restored crop, in the tones of one that is gray or sepia where the options ask for it, and its mask
    (`build_mask`).

    `is_monochrome` says whether it is, where that is known already; `photo` is the `color.photo_residual` of the image. The
    tones come first: colors that a gray face never had
    would count as something that lies over it."""
    if options.color == "auto" and is_monochrome is not False:
        tone, fits = fit_tone(crop, photo)
        restored = tone.apply(restored) if fits or is_monochrome else restored
    return restored, build_mask(options, mask_models, crop, restored, width, is_aligned)


def match_color(options: RestoreOptions, crop: FloatImage, restored: FloatImage, mask: FloatImage | None) -> FloatImage:
    """The restored crop with the colors that the crop has inside its mask, where the options ask for it."""
    return (
        transfer_color(restored, crop, masks.square_mask() if mask is None else mask)
        if options.color == "match"
        else restored
    )

"""What a restored crop goes through before it is put back: how much of it counts where, and its colours."""

from __future__ import annotations

from dataclasses import dataclass

from ..images.image import FloatImage
from ..options import OCCLUDERS, RestoreOptions
from . import mask as masks
from . import occlusion
from .color import match_colour, nearest_tone
from .mask import MASK_SIZE, Parser


@dataclass(frozen=True, eq=False)
class Masking:
    """How masks are made: by which parser the face is found, and by which the regions that stay; None where neither is."""

    face: Parser | None
    regions: Parser | None


def mask_of(
    options: RestoreOptions, masking: Masking, crop: FloatImage, restored: FloatImage, width: float, is_aligned: bool = False
) -> FloatImage | None:
    """[512, 512]: how much of the restored crop is taken. None: all of it, to the square's edge.

    Both crops are [S, S, 3] RGB in [0, 1]; `width` is the face's, as a part of the square's side. What is
    aligned already has no mask but the one asked for. Running out of memory raises torch's error."""
    expand = options.mask_expand * width * MASK_SIZE
    mask = classes = None
    if masking.face is not None and not (is_aligned and options.mask_type == "auto"):
        classes = masking.face.classes(restored)
        mask = masks.face_in(classes, expand)
    elif not is_aligned:
        mask = masks.feather(min(expand, 0.0))  # it reaches as far as it may already
    regions = [region for region in options.preserve if region != OCCLUDERS]
    if regions and masking.regions is not None:
        mask = _without(mask, masking.regions.kept(crop, restored, regions, classes))
    return _without(mask, occlusion.kept(crop, restored)) if OCCLUDERS in options.preserve else mask


def _without(mask: FloatImage | None, kept: FloatImage) -> FloatImage:
    return 1 - kept if mask is None else mask * (1 - kept)


def shaped(
    options: RestoreOptions,
    masking: Masking,
    crop: FloatImage,
    restored: FloatImage,
    width: float,
    is_aligned: bool = False,
    is_one_tone: bool | None = None,
) -> tuple[FloatImage, FloatImage | None]:
    """The restored crop, in the tones of one that is grey or sepia where the options ask for it, and its mask (`mask_of`).

    `is_one_tone` says whether it is, where that is known already. The tones come first: colours that a grey face never had
    would count as something that lies over it."""
    if options.color == "auto" and is_one_tone is not False:
        tone, is_all = nearest_tone(crop)
        restored = tone.applied(restored) if is_all or is_one_tone else restored
    return restored, mask_of(options, masking, crop, restored, width, is_aligned)


def matched(options: RestoreOptions, crop: FloatImage, restored: FloatImage, mask: FloatImage | None) -> FloatImage:
    """The restored crop with the colours that the crop has inside its mask, where the options ask for it."""
    return match_colour(restored, crop, masks.feather() if mask is None else mask) if options.color == "match" else restored

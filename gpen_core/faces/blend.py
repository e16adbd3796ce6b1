"""Putting restored crops back: only inside each face's region of the picture, the larger mask value winning."""

from __future__ import annotations

import cv2
import numpy as np

from ..pictures.picture import FloatImage, Picture
from .align import Alignment, into_region
from .face import Face
from .warp import warp

SOFTENED_BELOW = 100  # px of the box's shorter side
BINOMIAL = np.array([0.25, 0.5, 0.25], np.float32)


class Canvas:
    """A picture under repair and how much of each pixel is restored."""

    def __init__(self, original: Picture, limit: FloatImage | None = None) -> None:
        """`limit` [H, W] in [0, 1] is multiplied into every mask."""
        self.original = original
        self.limit = limit
        self.result = original.writable()
        self.mask = np.zeros((original.height, original.width), np.float32)

    def paste(self, crop: FloatImage, mask: FloatImage, alignment: Alignment, strength: float = 1.0) -> None:
        """Blends a restored crop ([S, S, 3] RGB in [0, 1]) into the picture.

        `mask` is square, of any size, over the same area. Where it, times `strength`, exceeds what another face has put
        there, the pixel becomes that part of the crop and the rest of the original. Other pixels are not touched.
        """
        region = alignment.region(self.original.width, self.original.height)
        if region.empty:
            return
        size = (region.x1 - region.x0, region.y1 - region.y0)
        to_region = into_region(alignment, region, mask.shape[0])
        weight = warp(mask, to_region, size, cubic=False, replicate=False)
        np.clip(weight, 0, 1, out=weight)  # in place here and below: new arrays of this size cost more than the sums
        weight *= np.float32(strength)
        if self.limit is not None:
            weight *= self.limit[region.slices]
        before = self.mask[region.slices]
        wins = weight > before
        if not wins.any():
            return
        restored = warp(crop, into_region(alignment, region, crop.shape[0]), size)
        np.clip(restored, 0, 1, out=restored)
        amount = weight[..., None]
        # At an amount of 1 this is exactly the restored value; a sum like a + m * (b - a) is not.
        restored *= amount
        blended = self.original.region(region)
        blended *= 1 - amount
        blended += restored
        self.result.put(region, blended, wins)
        np.copyto(before, weight, where=wins)


def soften_small(crop: FloatImage, face: Face) -> FloatImage:
    """The published softening: one 3x3 binomial blur of the crop where the face is smaller than 100 px."""
    if face.shorter_side >= SOFTENED_BELOW:
        return crop
    return np.asarray(cv2.sepFilter2D(crop, -1, BINOMIAL, BINOMIAL, borderType=cv2.BORDER_REPLICATE), np.float32)


def match_colour(restored: FloatImage, crop: FloatImage, mask: FloatImage) -> FloatImage:
    """Gives the restored crop the mean and standard deviation that each channel of the crop has inside the mask.

    Reinhard et al., "Color Transfer between Images", IEEE CG&A 21(5), 2001, section 3, in RGB.
    """
    size = (crop.shape[1], crop.shape[0])
    inside = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) >= 0.5).astype(np.uint8)
    if not inside.any():
        return restored
    (mean_from, std_from), (mean_to, std_to) = cv2.meanStdDev(restored, mask=inside), cv2.meanStdDev(crop, mask=inside)
    ratio = np.divide(std_to, std_from, out=np.ones_like(std_to), where=std_from > 1e-4).ravel()
    return np.asarray(np.clip((restored - mean_from.ravel()) * ratio + mean_to.ravel(), 0, 1), np.float32)

"""Pasting restored crops back into the image. Where two faces overlap, each pixel gets the nearer face."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage, ImageData, Pixels, Region
from . import grain as grains
from .align import Alignment, crop_to_region_matrix
from .face import Face
from .warp import warp

BLUR_BELOW = 100  # px of the box's shorter side
# How fast the nearer face's share grows with the difference of the two distances, which are in sides of each face's
# square. Halfway between two faces of equal size the share changes by 20 per side, less than in a linear blend over 8 % of
# a face (half a side).
STEEPNESS = 40.0
BINOMIAL = np.array([0.25, 0.5, 0.25], np.float32)


class Canvas:
    """An image that restored faces are pasted into, and how much of each pixel is restored."""

    def __init__(self, original: ImageData, region_mask: FloatImage | None = None) -> None:
        """`region_mask` [H, W] in [0, 1] is multiplied into every mask."""
        self.original = original
        self.region_mask = region_mask
        self.result = original
        """The original until something is pasted, then a copy."""
        self.mask = np.zeros((original.height, original.width), np.float32)
        self.strengths = np.zeros_like(self.mask)
        """The mean strength of the faces at each pixel, without their masks and the region mask."""
        self._pasted: list[tuple[Alignment, Region]] = []

    def paste(
        self, crop: FloatImage, mask: FloatImage | None, alignment: Alignment, strength: float = 1.0, grain: float = 0.0
    ) -> None:
        """Blend a restored crop ([S, S, 3] RGB in [0, 1]) into the image.

        `mask` is square, of any size, and covers the same area; None uses the whole square. A pixel becomes mask *
        `strength` of the crop and the rest of the original. Pixels outside the mask are not touched.
        Where two faces overlap, the larger mask value counts for both, and the face whose center is nearer (relative to
        its size) covers the other with a smooth border. Each keeps its own strength. The order of the calls makes no
        difference.
        `grain` (0 to 1) is the share of the image's own grain that the crop gets; see `grain.add_grain`.
        """
        region = alignment.source_region(*self.original.size)
        if region.empty:
            return
        size = (region.x1 - region.x0, region.y1 - region.y0)
        if mask is None:
            weight = np.ones(size[::-1], np.float32)
        else:
            weight = warp(mask, crop_to_region_matrix(alignment, region, mask.shape[0]), size, cubic=False, replicate=False)
        np.clip(weight, 0, 1, out=weight)  # in place here and below: new arrays of this size cost more than the math
        neighbors = self.register_overlaps(alignment, region)
        old_mask, old_strengths = self.mask[region.slices], self.strengths[region.slices]  # views, which are written below
        region_mask = np.float32(1) if self.region_mask is None else self.region_mask[region.slices]
        strengths: FloatImage | np.float32 = np.float32(strength)
        share = rescaled_mask = None
        if neighbors and old_mask.any():
            share = _overlap_share(weight, old_mask, old_strengths * region_mask, alignment, neighbors, region)
            strengths = old_strengths + share * (np.float32(strength) - old_strengths)
            share = _ratio(share * np.float32(strength), strengths)
            rescaled_mask = old_mask * _ratio(strengths, old_strengths)
        weight *= strengths * region_mask
        touched = weight > 0
        if not touched.any():
            return
        old_strengths[:] = strengths
        if not grain:  # which is measured in the whole square
            inner = _bounding_box(touched)
            weight, old_mask, touched = weight[inner.slices], old_mask[inner.slices], touched[inner.slices]
            share, rescaled_mask = (None if one is None else one[inner.slices] for one in (share, rescaled_mask))
            region = inner.absolute_in(region)
        size = (region.x1 - region.x0, region.y1 - region.y0)
        restored = warp(crop, crop_to_region_matrix(alignment, region, crop.shape[0]), size)
        np.clip(restored, 0, 1, out=restored)
        if grain > 0:
            grains.add_grain(self.original, alignment, region, restored, weight, grain)
        original = self.original.crop_rgb(region)
        if share is not None and rescaled_mask is not None:
            restored = self._mix_overlap(region, original, restored, share, old_mask)
            np.maximum(weight, rescaled_mask, out=weight)
        self._make_writable()
        amount = cv2.merge((weight, weight, weight))  # NumPy is slow if an array has no channels
        # At an amount of 1 this is exactly the restored value; a sum like a + m * (b - a) is not.
        restored *= amount
        original *= np.subtract(1, amount, out=amount)
        original += restored
        self.result.paste(region, original, touched)
        cv2.copyTo(weight, touched.view(np.uint8), old_mask)  # three times as fast as NumPy's

    def register_overlaps(self, alignment: Alignment, region: Region) -> list[Alignment]:
        """Record a face that will be pasted into `region` and return the earlier faces whose regions overlap it."""
        neighbors = [one for one, place in self._pasted if not place.intersection(region).empty]
        self._pasted.append((alignment, region))
        return neighbors

    def write_region(self, region: Region, samples: Pixels, mask: FloatImage, strengths: FloatImage) -> None:
        """Copy in a region that faces were blended into elsewhere.

        `samples` [h, w, C] are in the image's own range, `mask` and `strengths` are [h, w]. Where the mask is 0 the image
        is unchanged. Samples of the image's own dtype already equal the image there."""
        if not mask.any():
            return
        self._make_writable()
        if samples.dtype == self.result.pixels.dtype == np.uint8:
            self.result.pixels[region.slices] = samples
        else:
            np.copyto(self.result.pixels[region.slices], samples, casting="unsafe", where=(mask > 0)[..., None])
        self.mask[region.slices] = mask
        self.strengths[region.slices] = strengths

    def _make_writable(self) -> None:
        if self.result is self.original:
            self.result = self.original.writable()

    def _mix_overlap(
        self, region: Region, original: FloatImage, restored: FloatImage, share: FloatImage, old_mask: FloatImage
    ) -> FloatImage:
        """Mix the restored colors of two overlapping faces; `share` is the new face's part."""
        overlap = old_mask > 0
        amount = old_mask[overlap][:, None]
        others = (self.result.crop_rgb(region)[overlap] - original[overlap] * (1 - amount)) / amount
        new = share[overlap][:, None]
        # The division by a small amount enlarges rounding errors; the amount that the result is multiplied by later is as
        # small.
        restored[overlap] = restored[overlap] * new + np.clip(others, 0, 1) * (1 - new)
        return restored


def _bounding_box(mask: NDArray[np.bool_]) -> Region:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return Region(x, y, x + width, y + height)


def _overlap_share(
    weight: FloatImage,
    old_mask: FloatImage,
    max_weight: FloatImage,
    alignment: Alignment,
    neighbors: Sequence[Alignment],
    region: Region,
) -> FloatImage:
    """Return the new face's share [h, w] of the restored color where earlier faces overlap it; the nearer face is on top."""
    old = np.clip(_ratio(old_mask, max_weight), 0, 1)
    others = np.minimum.reduce([_center_distance(one, region) for one in neighbors])
    nearer = 1 / (1 + np.exp(STEEPNESS * (_center_distance(alignment, region) - others)))
    on_top = weight * (1 - old * (1 - nearer))
    below = old * (1 - weight * nearer)
    return np.asarray(np.divide(on_top, on_top + below, out=np.zeros_like(weight), where=weight > 0), np.float32)


def _ratio(values: FloatImage, whole: FloatImage) -> FloatImage:
    """Return values / whole; 0 where `whole` is 0."""
    return np.divide(values, whole, out=np.zeros_like(values), where=whole > 0)


def _center_distance(alignment: Alignment, region: Region) -> FloatImage:
    """Return the distance [h, w] of each pixel from the center of the face's square, in sides of that square."""
    middle = (alignment.size - 1) / 2
    x0, y0 = alignment.inverse @ (middle, middle, 1)
    x = (np.arange(region.x0, region.x1) - x0) / alignment.side
    y = (np.arange(region.y0, region.y1) - y0) / alignment.side
    return np.asarray(np.hypot(x[None, :], y[:, None]), np.float32)


def blur_small_face(crop: FloatImage, face: Face) -> FloatImage:
    """Blur the crop once with a 3x3 binomial kernel if the face is smaller than 100 px, as the published pipeline does."""
    if face.shorter_side >= BLUR_BELOW:
        return crop
    return np.asarray(cv2.sepFilter2D(crop, -1, BINOMIAL, BINOMIAL, borderType=cv2.BORDER_REPLICATE), np.float32)

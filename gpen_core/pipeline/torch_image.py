"""A rectangle of a picture on a device, in samples as they came in."""

from __future__ import annotations

import numpy as np
import torch

from ..faces.align import Alignment, reach
from ..images.image import FLOATS, LUMA, PEAKS, Picture, Pixels, Region
from .torch_warp import warp

MOST_KEPT = 64 << 20  # bytes: a photograph of 12 megapixels, or ten frames of 1080p, and little beside a network


class Part:
    """The picture's pixels within `region`. Regions are given in pixels of the whole picture and lie within it."""

    def __init__(self, picture: Picture, region: Region, device: torch.device) -> None:
        """Running out of memory raises torch's error."""
        self.picture = picture
        self.region = region
        self.device = device
        self.samples = uploaded(picture.pixels[region.slices], device)  # [h, w, C]

    @property
    def nbytes(self) -> int:
        """Of its samples."""
        return self.samples.numel() * self.samples.element_size()

    def slices(self, region: Region) -> tuple[slice, slice]:
        """Where the region's rows and columns are in `samples`."""
        x0, y0 = self.region.x0, self.region.y0
        return slice(region.y0 - y0, region.y1 - y0), slice(region.x0 - x0, region.x1 - x0)

    def rgb(self, region: Region, samples: torch.Tensor | None = None) -> torch.Tensor:
        """[3, h, w] in [0, 1], float32; of `samples`, if given, in place of the picture's."""
        of = self.samples if samples is None else samples
        planes: torch.Tensor = of[self.slices(region)].permute(2, 0, 1).to(torch.float32).contiguous()  # HWC -> CHW
        if self.picture.peak != 1:
            planes = planes / self.picture.peak
        if self.picture.pixels.dtype in FLOATS:
            planes = planes.clamp(0, 1)
        return planes if len(planes) == 3 else planes.expand(3, -1, -1)

    def rounded(self, rgb: torch.Tensor) -> torch.Tensor:
        """[3, h, w] in [0, 1] -> samples [h, w, C] of the kind that `samples` has."""
        if self.samples.shape[2] == 1:
            rgb = luminance(rgb)
        if self.picture.pixels.dtype in PEAKS:
            rgb = (rgb.clamp(0, 1) * self.picture.peak).round()
        return rgb.permute(1, 2, 0).to(self.samples.dtype)  # CHW -> HWC

    def crop(self, alignment: Alignment) -> torch.Tensor:
        """[3, S, S] in [0, 1], as `align.extract` cuts it out."""
        region = reach(self.picture, alignment)
        return warp(self.rgb(region), alignment.within(region).matrix, (alignment.size, alignment.size)).clamp_(0, 1)


class Uploads:
    """Whole pictures that detection looked at, kept for one call until their faces are cut out: the first ones, as far as
    `most` bytes go. The others go to the device again."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._kept: dict[Picture, Part] = {}

    def whole(self, picture: Picture, device: torch.device) -> Part:
        """Running out of memory raises torch's error."""
        part = self._kept.get(picture)
        if part is None:
            part = Part(picture, picture.whole, device)
            if part.nbytes <= self._left:
                self._left -= part.nbytes
                self._kept[picture] = part
        return part

    def take(self, picture: Picture, device: torch.device) -> Part | None:
        """The picture, if it is on that device; it is not kept any longer."""
        part = self._kept.pop(picture, None)
        if part is None:
            return None
        self._left += part.nbytes
        there = torch.empty(0, device=device).device  # `cuda` is `cuda:0` once something lies there
        return part if part.samples.device == there else None

    def drop(self) -> None:
        """Keeps nothing."""
        for picture in tuple(self._kept):
            self._left += self._kept.pop(picture).nbytes


def luminance(rgb: torch.Tensor) -> torch.Tensor:
    """[3, h, w] -> [1, h, w]"""
    red, green, blue = (float(part) for part in LUMA)
    return rgb[:1] * red + rgb[1:2] * green + rgb[2:] * blue


def uploaded(samples: Pixels, device: torch.device) -> torch.Tensor:
    """On the device: 8 bits as they are, 16 bits as int32 (torch computes little in uint16), floats as float32."""
    kind = {np.dtype(np.uint8): np.uint8, np.dtype(np.uint16): np.int32}.get(samples.dtype, np.float32)
    array = np.require(samples, kind, ["C", "W"])
    if min(array.strides) < 0:  # along a side of one pixel, which counts as in order
        array = array.copy()
    return torch.from_numpy(array).to(device)

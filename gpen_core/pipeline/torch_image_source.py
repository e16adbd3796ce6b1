"""What a detector looks at, made where it computes: pictures go there once, in samples as they came in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..faces.align import Alignment
from ..images.image import FLOATS, PEAKS, Picture
from ..images.resize import scaled_size
from .torch_image import Part, Uploads
from .torch_resize import resize


class DeviceScene:
    """As `faces.detection.image_source.OpenCVScene`, on a device. Running out of memory raises torch's error."""

    def __init__(self, pictures: Sequence[Picture], sides: Sequence[int], device: torch.device, uploads: Uploads) -> None:
        self._parts = [uploads.whole(picture, device) for picture in pictures]
        first = _scaled(torch.cat([bgr_255(part, sides[0]) for part in self._parts]), sides[0])
        self._levels = [first, *(_scaled(first, side) for side in sides[1:])]

    def level(self, number: int, members: Sequence[int], quarters: int) -> torch.Tensor:
        batch = self._levels[number]
        if len(members) < len(batch):
            batch = torch.stack([batch[n] for n in members])
        return batch.rot90(quarters, (1, 2)) if quarters else batch

    def squares(self, wanted: Sequence[tuple[int, Alignment]]) -> torch.Tensor:
        crops = torch.stack([_square(self._parts[n], alignment) for n, alignment in wanted])
        return crops.flip(1).mul_(255).permute(0, 2, 3, 1)  # RGB in [0, 1] -> BGR in [0, 255], BCHW -> BHWC


def bgr_255(part: Part, longest: int) -> torch.Tensor:
    """[1, h, w, 3]: as `Picture.bgr_255`, of a part that is the whole picture."""
    picture, pixels = part.picture, part.samples[None]
    if max(picture.size) > longest:
        pixels = _scaled(pixels, longest)
        if picture.pixels.dtype in PEAKS:
            pixels = pixels.add_(0.5).floor_()  # OpenCV gives whole numbers
    pixels = pixels.to(torch.float32)
    if picture.peak != 255:
        pixels = pixels / (picture.peak / 255)
    if picture.pixels.dtype in FLOATS:
        pixels = pixels.clamp(0, 255)
    return pixels.flip(3) if pixels.shape[3] == 3 else pixels.expand(-1, -1, -1, 3)  # RGB -> BGR


def _scaled(batch: torch.Tensor, longest: int) -> torch.Tensor:
    height, width = batch.shape[1:3]
    return resize(batch, scaled_size((width, height), longest))


def _square(part: Part, alignment: Alignment) -> torch.Tensor:
    """[3, S, S] in [0, 1]"""
    if alignment.region(*part.picture.size).empty:
        return torch.zeros((3, alignment.size, alignment.size), device=part.device)
    return part.crop(alignment)

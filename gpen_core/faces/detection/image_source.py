"""What a detector looks at: reductions of whole images with a border, and squares cut out of them; here with OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...images.image import FloatImage, ImageData
from ...images.resize import resize_longest
from ..align import Alignment, crop_face
from .rotation import rotate90

ImageBatch = FloatImage | torch.Tensor
"""[B, H, W, 3] BGR in [0, 255]; a tensor lies where the detector computes."""


class ImageSource(Protocol):
    """Images of equal size that are searched together. They are known by their numbers."""

    def pyramid_level(self, number: int, members: Sequence[int], quarters: int) -> ImageBatch:
        """Those images reduced to one of the sides that were asked for, turned counter-clockwise by so many quarters."""

    def crops(self, wanted: Sequence[tuple[int, Alignment]]) -> ImageBatch:
        """Squares of one size cut out of the images as `align.crop_face` does; one that lies beyond its image is
        black."""


BORDER = 32  # px around a level: a stride of the network's coarsest features

ImageSourceFactory = Callable[[Sequence[ImageData], Sequence[int]], ImageSource]
"""Of images of equal size, and the longer side of each level, the largest first; see `pyramid.pyramid_sizes`."""


class OpenCVImageSource:
    """On the CPU."""

    def __init__(self, images: Sequence[ImageData], sides: Sequence[int]) -> None:
        self._images = images
        whole = np.stack([image.to_bgr255(sides[0]) for image in images])
        first = resize_longest(whole, sides[0])
        self._levels = [first, *(resize_longest(first, side) for side in sides[1:])]

    def pyramid_level(self, number: int, members: Sequence[int], quarters: int) -> FloatImage:
        batch = self._levels[number]
        if len(members) < len(batch):
            batch = batch[list(members)]
        return rotate90(batch, quarters) if quarters else batch

    def crops(self, wanted: Sequence[tuple[int, Alignment]]) -> FloatImage:
        crops = np.stack([_crop(self._images[n], alignment) for n, alignment in wanted])
        return np.asarray(crops[..., ::-1] * np.float32(255))  # RGB in [0, 1] -> BGR in [0, 255]


def _crop(image: ImageData, alignment: Alignment) -> FloatImage:
    if alignment.source_region(*image.size).empty:  # a box may reach out of the image, middle and all
        return np.zeros((alignment.size, alignment.size, 3), np.float32)
    return crop_face(image, alignment)


def with_border(batch: ImageBatch) -> ImageBatch:
    """The batch with its border repeated `BORDER` px further on each side.

    A face that the image's border cuts off has its middle near the border or beyond it. The network's own grid begins at the
    left and upper border and ends as far beyond the others as the sides are no multiples of its stride: without this, one
    side finds what its mirror image does not."""
    if isinstance(batch, torch.Tensor):
        planes = F.pad(batch.permute(0, 3, 1, 2), (BORDER,) * 4, mode="replicate")  # BHWC -> BCHW
        return planes.permute(0, 2, 3, 1)
    sides = (BORDER, BORDER)
    return np.asarray(np.pad(batch, ((0, 0), sides, sides, (0, 0)), mode="edge"))


def white_points(batch: ImageBatch) -> NDArray[np.float64]:
    """[B]: the 99th percentile of each image's samples, in [0, 255]."""
    samples = batch.cpu().numpy() if isinstance(batch, torch.Tensor) else batch
    return np.array([np.percentile(image, 99) for image in samples])


def amplify(batch: ImageBatch, gains: FloatImage) -> ImageBatch:
    """The batch with each image's samples multiplied by its gain of [B], as far as white."""
    if (gains == 1).all():
        return batch
    if isinstance(batch, torch.Tensor):
        return (batch * torch.from_numpy(gains).to(batch.device)[:, None, None, None]).clamp_(0, 255)
    return np.asarray(np.clip(batch * gains[:, None, None, None], 0, 255), np.float32)

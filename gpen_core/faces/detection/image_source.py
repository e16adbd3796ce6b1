"""What a detector looks at: reductions of whole images, and squares cut out of them; here with OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

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

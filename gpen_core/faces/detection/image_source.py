"""The detector's inputs: downscaled images with a border, and square crops; here with OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...images.image import FloatImage, ImageData
from ...images.resize import resize_longest
from ..align import Alignment, crop_face
from .rotation import rotate90

BORDER = 32  # px around a level: the stride of the network's coarsest features

ImageBatch = FloatImage | torch.Tensor
"""[B, H, W, 3] BGR in [0, 255]; a tensor is on the detector's device."""


class ImageSource(Protocol):
    """A batch of images of equal size, addressed by index."""

    def pyramid_level(self, number: int, members: Sequence[int], quarters: int) -> ImageBatch:
        """Return the images `members` at pyramid level `number`, rotated counterclockwise by `quarters` quarter turns."""

    def crops(self, wanted: Sequence[tuple[int, Alignment]]) -> ImageBatch:
        """Return square crops of one size, made as by `align.crop_face`. A crop outside its image is black."""


ImageSourceFactory = Callable[[Sequence[ImageData], Sequence[int]], ImageSource]
"""Arguments: images of equal size, and the longer side of each level in descending order (see `pyramid.pyramid_sizes`)."""


class OpenCVImageSource:
    """An `ImageSource` on the CPU."""

    def __init__(self, images: Sequence[ImageData], sides: Sequence[int]) -> None:
        self._images = images
        whole = _stack([image.to_bgr255(sides[0]) for image in images])
        first = resize_longest(whole, sides[0])
        self._levels = [first, *(resize_longest(first, side) for side in sides[1:])]

    def pyramid_level(self, number: int, members: Sequence[int], quarters: int) -> FloatImage:
        batch = self._levels[number]
        if len(members) < len(batch):
            batch = batch[list(members)]
        return rotate90(batch, quarters) if quarters else batch

    def crops(self, wanted: Sequence[tuple[int, Alignment]]) -> FloatImage:
        crops = _stack([_crop(self._images[n], alignment) for n, alignment in wanted])
        return np.asarray(crops[..., ::-1] * np.float32(255))  # RGB in [0, 1] -> BGR in [0, 255]


def _crop(image: ImageData, alignment: Alignment) -> FloatImage:
    if alignment.source_region(*image.size).empty:  # a box may be completely outside the image
        return np.zeros((alignment.size, alignment.size, 3), np.float32)
    return crop_face(image, alignment)


def with_border(batch: ImageBatch) -> ImageBatch:
    """Return the batch with its edge pixels repeated for `BORDER` px on each side.

    A face cut off by the image's edge has its center near the edge or beyond it. The network's grid starts at the left
    and top edge, and it reaches past the right and bottom edge if the sides are not multiples of its stride. Without the
    border, faces found at one edge are missed at the opposite edge of the mirror image."""
    if isinstance(batch, torch.Tensor):
        planes = F.pad(batch.permute(0, 3, 1, 2), (BORDER,) * 4, mode="replicate")  # BHWC -> BCHW
        return planes.permute(0, 2, 3, 1)
    count, height, width, channels = batch.shape
    out = np.empty((count, height + 2 * BORDER, width + 2 * BORDER, channels), np.float32)
    for image, target in zip(batch, out):
        cv2.copyMakeBorder(image, *(BORDER,) * 4, cv2.BORDER_REPLICATE, dst=target)
    return out


def _stack(images: Sequence[FloatImage]) -> FloatImage:
    """Return images of equal size as a batch; a single one is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)


def white_points(batch: ImageBatch) -> NDArray[np.float64]:
    """Return the 99th percentile [B] of each image's samples, in [0, 255]."""
    samples = batch.cpu().numpy() if isinstance(batch, torch.Tensor) else batch
    return np.array([np.percentile(image, 99) for image in samples])


def amplify(batch: ImageBatch, gains: FloatImage) -> ImageBatch:
    """Return the batch with each image multiplied by its gain [B] and clipped at white."""
    if (gains == 1).all():
        return batch
    if isinstance(batch, torch.Tensor):
        return (batch * torch.from_numpy(gains).to(batch.device)[:, None, None, None]).clamp_(0, 255)
    return np.asarray(np.clip(batch * gains[:, None, None, None], 0, 255), np.float32)

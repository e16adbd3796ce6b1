"""The detector's input images, prepared on its device. Each image is uploaded once, in its original sample type."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..faces.align import Alignment
from ..images.image import FLOAT_DTYPES, MAX_VALUES, ImageData
from ..images.resize import scaled_size
from .torch_image import DeviceImage, UploadCache
from .torch_resize import resize


class TorchImageSource:
    """`faces.detection.image_source.OpenCVImageSource` in torch. If memory runs out, torch's error is raised."""

    def __init__(
        self, images: Sequence[ImageData], sides: Sequence[int], device: torch.device, upload_cache: UploadCache
    ) -> None:
        self._images = [upload_cache.get(image, device) for image in images]
        first = _scaled(torch.cat([to_bgr255(part, sides[0]) for part in self._images]), sides[0])
        self._levels = [first, *(_scaled(first, side) for side in sides[1:])]

    def pyramid_level(self, number: int, members: Sequence[int], quarters: int) -> torch.Tensor:
        batch = self._levels[number]
        if len(members) < len(batch):
            batch = torch.stack([batch[n] for n in members])
        return batch.rot90(quarters, (1, 2)) if quarters else batch

    def crops(self, wanted: Sequence[tuple[int, Alignment]]) -> torch.Tensor:
        crops = torch.stack([_crop_or_black(self._images[n], alignment) for n, alignment in wanted])
        return crops.flip(1).mul_(255).permute(0, 2, 3, 1)  # RGB in [0, 1] -> BGR in [0, 255], BCHW -> BHWC


def to_bgr255(device_image: DeviceImage, longest: int) -> torch.Tensor:
    """Convert a whole image like `ImageData.to_bgr255`: [1, h, w, 3]."""
    source, pixels = device_image.source, device_image.samples[None]
    if max(source.size) > longest:
        pixels = _scaled(pixels, longest)
        if source.dtype in MAX_VALUES:
            pixels = pixels.add_(0.5).floor_()  # OpenCV rounds to integers
    pixels = pixels.to(torch.float32)
    if source.max_value != 255:
        pixels = pixels / (source.max_value / 255)
    if source.dtype in FLOAT_DTYPES:
        pixels = pixels.clamp(0, 255)
    return pixels.flip(3) if pixels.shape[3] == 3 else pixels.expand(-1, -1, -1, 3)  # RGB -> BGR


def _scaled(batch: torch.Tensor, longest: int) -> torch.Tensor:
    height, width = batch.shape[1:3]
    return resize(batch, scaled_size((width, height), longest))


def _crop_or_black(device_image: DeviceImage, alignment: Alignment) -> torch.Tensor:
    """Crop a face, [3, S, S] in [0, 1]. Outside the image it is black."""
    if alignment.source_region(*device_image.source.size).empty:
        return torch.zeros((3, alignment.size, alignment.size), dtype=torch.float32, device=device_image.device)
    return device_image.crop(alignment)

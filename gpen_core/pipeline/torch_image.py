"""Images on a device, in their original sample type."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from ..errors import is_out_of_memory
from ..faces.align import Alignment, read_region
from ..images.image import FLOAT_DTYPES, LUMA, MAX_VALUES, FloatImage, ImageData, Pixels, Region
from .torch_warp import warp

Made = TypeVar("Made")
Copy = Callable[[Pixels, torch.device], torch.Tensor]
"""Copies samples to a device, as `to_device` does."""

log = logging.getLogger(__name__)

MAX_CACHED_BYTES = 64 << 20  # enough for a photo of 12 megapixels or ten frames of 1080p, and small compared to a network


def to_array(image: torch.Tensor) -> FloatImage:
    """Copy a crop [C, S, S] or a mask [S, S] from its device: [S, S, C] or [S, S]."""
    rows = image.permute(1, 2, 0).contiguous() if image.ndim == 3 else image  # CHW -> HWC
    array: FloatImage = rows.cpu().numpy()
    return array


def to_tensor(image: FloatImage, device: torch.device) -> torch.Tensor:
    """Copy a crop [S, S, C] or a mask [S, S] to a device: [C, S, S] or [S, S]."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor  # HWC -> CHW


class DeviceImage:
    """The pixels of an image within `region` on a device. All regions are in pixels of the whole image."""

    def __init__(self, image: ImageData, region: Region, device: torch.device, samples: torch.Tensor | None = None) -> None:
        """`samples` [h, w, C]: the region's pixels if they are on the device already; see `to_device` for their type.

        If memory runs out, torch's error is raised."""
        self.source = image
        self.region = region
        self.device = device
        self.samples = to_device(image.part(region).pixels, device) if samples is None else samples  # [h, w, C]

    @property
    def tensors(self) -> Sequence[torch.Tensor]:
        """All tensors on the device."""
        return [self.samples]

    @property
    def nbytes(self) -> int:
        """The size of the samples in bytes."""
        return self.samples.numel() * self.samples.element_size()

    def slices(self, region: Region) -> tuple[slice, slice]:
        """Return the rows and columns of `samples` for a region."""
        return region.relative_to(self.region).slices

    def rgb(self, region: Region, samples: torch.Tensor | None = None) -> torch.Tensor:
        """Return a region as RGB [3, h, w] in [0, 1], float32. `samples` replaces the image's samples if given."""
        source = self.samples if samples is None else samples
        planes: torch.Tensor = source[self.slices(region)].permute(2, 0, 1).to(torch.float32).contiguous()  # HWC -> CHW
        if self.source.max_value != 1:
            planes = planes / self.source.max_value
        if self.source.dtype in FLOAT_DTYPES:
            planes = planes.clamp(0, 1)
        return planes if len(planes) == 3 else planes.expand(3, -1, -1)

    def quantize(self, rgb: torch.Tensor) -> torch.Tensor:
        """Convert [3, h, w] in [0, 1] to samples [h, w, C] with the type of `samples`."""
        if self.samples.shape[2] == 1:
            rgb = luminance(rgb)
        if self.source.dtype in MAX_VALUES:
            rgb = (rgb.clamp(0, 1) * self.source.max_value).round()
        return rgb.permute(1, 2, 0).to(self.samples.dtype)  # CHW -> HWC

    def crop(self, alignment: Alignment) -> torch.Tensor:
        """Crop a face like `align.crop_face`: [3, S, S] in [0, 1]."""
        region = read_region(self.source, alignment)
        return warp(self.rgb(region), alignment.relative_to_region(region).matrix, (alignment.size, alignment.size)).clamp_(
            0, 1
        )


@runtime_checkable
class UploadsItself(Protocol):
    """An image that goes to a device in another way than by its pixels."""

    def device_image(self, region: Region, device: torch.device, copy: Copy) -> DeviceImage:
        """Return an image that contains at least the region. If memory runs out, torch's error is raised."""


def upload(image: ImageData, region: Region, device: torch.device, copy: Copy | None = None) -> DeviceImage:
    """Upload at least this region of an image. `copy` replaces `to_device`.

    If memory runs out, torch's error is raised."""
    copy = copy or to_device
    if isinstance(image, UploadsItself):
        return image.device_image(region, device, copy)
    return DeviceImage(image, region, device, copy(image.part(region).pixels, device))


def make_if_fits(
    make: Callable[[], Made],
    warning: str = "The image does not fit on the device next to the network; pasting its faces on the CPU.",
) -> Made | None:
    """Return the result of `make`, or None with a warning if it does not fit into the device's memory."""
    try:
        return make()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning(warning)
    return None


class UploadCache:
    """Keeps whole images on the device from detection until their faces are cropped, during one call.

    It keeps the first images, up to `max_bytes` bytes in total. The others are uploaded again."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes
        self._images: dict[ImageData, DeviceImage] = {}

    def get(self, image: ImageData, device: torch.device) -> DeviceImage:
        """Return the image on the device, and upload it if necessary. If memory runs out, torch's error is raised."""
        device_image = self._images.get(image)
        if device_image is None:
            device_image = upload(image, image.full_region, device)
            if device_image.nbytes <= self._free_bytes:
                self._free_bytes -= device_image.nbytes
                self._images[image] = device_image
        return device_image

    def pop(self, image: ImageData, device: torch.device) -> DeviceImage | None:
        """Remove and return the image if it is on that device, else None."""
        device_image = self._images.pop(image, None)
        if device_image is None:
            return None
        self._free_bytes += device_image.nbytes
        resolved_device = torch.empty(0, device=device).device  # tensors on `cuda` report `cuda:0`
        return device_image if device_image.samples.device == resolved_device else None

    def clear(self) -> None:
        """Remove all images."""
        for image in tuple(self._images):
            self._free_bytes += self._images.pop(image).nbytes


def luminance(rgb: torch.Tensor) -> torch.Tensor:
    """Convert RGB [3, h, w] to luminance [1, h, w]."""
    red, green, blue = (float(part) for part in LUMA)
    return rgb[:1] * red + rgb[1:2] * green + rgb[2:] * blue


def to_device(samples: Pixels, device: torch.device, is_pinned: bool = False) -> torch.Tensor:
    """Copy samples to the device: uint8 unchanged, uint16 as int32 (torch has few uint16 operations), floats as float32.

    With `is_pinned`, the copy goes through pinned memory, and only the device's current stream waits for it."""
    dtype = {np.dtype(np.uint8): np.uint8, np.dtype(np.uint16): np.uint16}.get(samples.dtype, np.float32)
    array = np.require(samples, dtype, ["C", "W"])
    if min(array.strides) < 0:  # possible along an axis of length 1, which numpy treats as contiguous
        array = array.copy()
    host = torch.from_numpy(array.view(np.int16) if array.dtype == np.uint16 else array)  # copied in 16 bits
    copied = host.pin_memory().to(device, non_blocking=True) if is_pinned else host.to(device)
    return copied if array.dtype != np.uint16 else copied.to(torch.int32).bitwise_and_(0xFFFF)


def from_device(samples: torch.Tensor) -> Pixels:
    """Copy samples of any shape from their device, as the types that `to_device` takes: int32 in [0, 65535] as uint16."""
    if samples.dtype == torch.int32:
        return np.asarray(samples.to(torch.int16).cpu().numpy().view(np.uint16))  # copied in 16 bits
    return np.asarray(samples.cpu().numpy())

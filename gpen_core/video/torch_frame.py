"""Frames of a video on a device: their planes are uploaded as decoded, and everything else is made from them there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from ..images.image import Region
from ..pipeline import device_check
from ..pipeline.torch_image import Copy, DeviceImage, from_device, luminance, make_if_fits, to_device
from ..pipeline.torch_image_source import to_bgr255
from ..pipeline.torch_upload import Upload, Uploader
from .analysis import FrameT
from .ffmpeg_rgb import FrameImages, find_chroma_layout
from .frame_image import FrameImage, MakeImage, convert_now
from .planes import ColorSpec, PixelFormat, Planes
from .probe import VideoInfo
from .shots import THUMBNAIL_SIZE
from .threaded_pipeline import ThreadedPipeline
from .torch_rgb import ChromaLayout, DevicePlanes

WARNING = "A frame does not fit on the device next to the face detector; the CPU converts the frames to RGB."
GRAY_WEIGHTS, GRAY_SHIFT = (9798, 19235, 3735), 15  # OpenCV's of red, green and blue: ITU-R BT.601


class DeviceFrame(DeviceImage):
    """A `DeviceImage` of a frame: RGB, and the planes from which it was made."""

    def __init__(self, image: TorchFrameImage, region: Region, device: torch.device, copy: Copy = to_device) -> None:
        """If memory runs out, torch's error is raised."""
        self.planes = DevicePlanes.upload(image.planes, region, device, copy, image.chroma)
        super().__init__(image, region, device, self.planes.to_rgb(region))

    @property
    def tensors(self) -> Sequence[torch.Tensor]:
        return [self.samples, *self.planes.samples]


class TorchFrameImage(FrameImage):
    """A `FrameImage` that is converted to RGB on the device it is uploaded to."""

    def __init__(self, frame: Any, planes: Planes, info: VideoInfo, chroma: ChromaLayout) -> None:
        super().__init__(frame, planes, info)
        self.chroma = chroma
        self._upload: Upload[DeviceFrame] | None = None

    def device_image(self, region: Region, device: torch.device, copy: Copy) -> DeviceImage:
        """Return the upload of the whole frame if one is kept on this device, else upload the region."""
        kept = None if self._upload is None else self._upload.get()
        return kept if kept is not None and kept.device == device else DeviceFrame(self, region, device, copy)

    @property
    def is_uploaded(self) -> bool:
        return self._upload is not None

    def keep(self, upload: Upload[DeviceFrame] | None) -> None:
        """Keep an upload of the whole frame, or none any more."""
        self._upload = upload


def convert_on_device(frame: Any, info: VideoInfo) -> MakeImage:
    """For `FrameImages`: each image is a `TorchFrameImage`, or RGB from the CPU if a device would make another."""
    chroma = find_chroma_layout(frame, info)
    return convert_now if chroma is None else partial(TorchFrameImage, chroma=chroma)


def images_for_device(device: torch.device) -> MakeImage:
    """Return what makes images that the device converts to RGB, or the CPU if the device cannot do it right."""
    is_right = device_check.supports_image_ops(device) and device_check.passes(CONVERSION, device)
    return FrameImages(convert_on_device) if is_right else convert_now


@dataclass
class FrameUploads:
    """Uploads whole frames for the first pass. Detection uses the uploads. Cuts and tracks use gray images made of them."""

    device: torch.device
    is_too_large: bool = field(default=False, init=False)
    """Whether a frame did not fit."""

    def add(self, frames: Iterator[FrameT], pipeline: ThreadedPipeline, depth: int) -> Iterator[FrameT]:
        """Upload frames, in a thread of their own if uploads are asynchronous."""
        uploader = Uploader.from_environment(self.device)
        uploaded = self._uploaded(frames, uploader)
        return pipeline.prefetch(uploaded, depth) if uploader.is_async else uploaded

    def _uploaded(self, frames: Iterator[FrameT], uploader: Uploader) -> Iterator[FrameT]:
        for frame in frames:
            image = frame.image
            if isinstance(image, TorchFrameImage) and not self.is_too_large:
                upload = make_if_fits(partial(uploader.start, partial(self._prepare, image)), WARNING)
                self.is_too_large = upload is None
                image.keep(upload)
            yield frame

    def _prepare(self, image: TorchFrameImage, copy: Copy) -> DeviceFrame:
        device_frame = DeviceFrame(image, image.full_region, self.device, copy)
        image.gray, image.thumbnail = from_device(to_gray(device_frame.samples)), from_device(thumbnail(device_frame))
        return device_frame


def release_uploads(detections: Iterable[tuple[FrameT, Any]]) -> Iterator[tuple[FrameT, Any]]:
    """Yield frames with their faces. Their uploads are not needed any more."""
    for frame, faces in detections:
        if isinstance(frame.image, TorchFrameImage):
            frame.image.keep(None)
        yield frame, faces


def to_gray(samples: torch.Tensor) -> torch.Tensor:
    """Return the luma [h, w] of RGB [h, w, 3], like `face_motion.to_gray`: uint8, or int32 for 16 bits."""
    red, green, blue = (samples[..., n].to(torch.int32) * weight for n, weight in enumerate(GRAY_WEIGHTS))
    return ((red + green + blue + (1 << (GRAY_SHIFT - 1))) >> GRAY_SHIFT).to(samples.dtype)


def thumbnail(device_frame: DeviceImage) -> torch.Tensor:
    """Return [h, w], float32, like `shots.thumbnail`."""
    bgr = to_bgr255(device_frame, THUMBNAIL_SIZE)[0]
    return luminance(bgr.flip(2).permute(2, 0, 1))[0]  # HWC -> CHW


def _run_conversion(device: torch.device) -> torch.Tensor:
    """[N]: RGB of small frames, concatenated, in [0, 1]."""
    generator = np.random.default_rng(7)
    made = []
    for name, bits in (("yuv420p", 8), ("yuv422p10le", 10), ("gbrp", 8)):
        layout, dtype = PixelFormat.of(name), np.uint8 if bits == 8 else np.uint16
        shapes = [(-(-24 // down), -(-33 // across)) for across, down in map(layout.subsampling, range(3))]
        arrays = tuple(generator.integers(0, 2**bits, shape).astype(dtype) for shape in shapes)
        rgb = DevicePlanes.upload(Planes(arrays, name, ColorSpec()), Region(3, 2, 30, 20), device).to_rgb(
            Region(3, 2, 30, 20)
        )
        gray = to_gray(rgb)[..., None]
        made.append(torch.cat((rgb, gray), 2).to(torch.float32).flatten() / (255 if bits == 8 else 65535))
    return torch.cat(made)


CONVERSION = device_check.DeviceCheck(
    _run_conversion,
    tolerance=4e-3,  # one 8-bit level
    warning="Using the CPU instead of %s to convert the frames of videos to RGB: %s",
)
"""Conversion of planes to RGB and to gray. If a device fails, FFmpeg and OpenCV are used."""

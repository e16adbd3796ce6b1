"""A decoded frame as an image: converted to RGB at once, or when its pixels are first read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..images.image import FloatImage, ImageData, Pixels, apply_orientation
from .planes import Planes, to_rgb
from .probe import VideoInfo

MakeImage = Callable[[Any, Planes, VideoInfo], ImageData]
"""Arguments: PyAV's frame, its upright planes, and the video's properties."""


def convert_now(frame: Any, planes: Planes, info: VideoInfo) -> ImageData:
    """Convert the frame to RGB, upright."""
    return ImageData(upright_rgb(frame, info))


class FrameImage(ImageData):
    """The upright image of a decoded frame. It is converted to RGB when `pixels` is first read, then the frame is freed."""

    gray: Pixels | None = None
    """[H, W]: the result of `face_motion.to_gray`, if a device has computed it."""
    thumbnail: FloatImage | None = None
    """[h, w]: the result of `shots.thumbnail`, if a device has computed it."""

    def __init__(self, frame: Any, planes: Planes, info: VideoInfo) -> None:
        self.planes = planes
        self._frame, self._info = frame, info
        self._made: Pixels | None = None
        self._lock = threading.Lock()

    @property
    def pixels(self) -> Pixels:
        with self._lock:
            if self._made is None:
                self._made, self._frame = upright_rgb(self._frame, self._info), None
            return self._made

    @property
    def is_converted(self) -> bool:
        """Whether `pixels` was read."""
        return self._made is not None

    @property
    def width(self) -> int:
        return self.planes.size[0]

    @property
    def height(self) -> int:
        return self.planes.size[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self._info.bits <= 8 else np.uint16)

    def writable(self) -> ImageData:
        return ImageData(self.pixels.copy())

    def __repr__(self) -> str:
        return f"FrameImage({self.width}x{self.height} {self.planes.format})"


def upright_rgb(frame: Any, info: VideoInfo) -> Pixels:
    """Return RGB [H, W, 3] of uint8, or of uint16 for more than 8 bits."""
    return np.ascontiguousarray(apply_orientation(to_rgb(frame, info.colors, info.bits), info.orientation))

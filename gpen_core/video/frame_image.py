"""A decoded frame as an image: converted to RGB at once, or when its pixels are first read, or only in parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..images.image import FloatImage, ImageData, Pixels, Region, apply_orientation
from .planes import Planes, aligned_boxes, copy_part, to_rgb
from .probe import VideoInfo

PART_MARGIN = 16  # px; FFmpeg's interpolation of chroma reads at most two samples to each side, which are 8 px in 4:1:0
PART_GRID = 32  # px; a multiple of all distances between chroma samples

MakeImage = Callable[[Any, Planes, VideoInfo], ImageData]
"""Arguments: PyAV's frame, its upright planes, and the video's properties."""


def convert_now(frame: Any, planes: Planes, info: VideoInfo) -> ImageData:
    """Convert the frame to RGB, upright."""
    return ImageData(upright_rgb(frame, info))


class FrameImage(ImageData):
    """The upright image of a decoded frame. It is converted to RGB when `pixels` is first read, then the frame is freed.

    With a `PartConverter`, `part` and `crop_rgb` convert only what they return."""

    gray: Pixels | None = None
    """[H, W]: the result of `face_motion.to_gray`, if a device has computed it."""
    thumbnail: FloatImage | None = None
    """[h, w]: the result of `shots.thumbnail`, if a device has computed it."""

    def __init__(self, frame: Any, planes: Planes, info: VideoInfo, convert_part: PartConverter | None = None) -> None:
        self.planes = planes
        self._frame, self._info, self._convert_part = frame, info, convert_part
        self._made: Pixels | None = None
        self._parts: list[tuple[Region, Pixels]] = []
        self._lock = threading.Lock()

    @property
    def pixels(self) -> Pixels:
        with self._lock:
            if self._made is None:
                self._made, self._frame = upright_rgb(self._frame, self._info), None
                self._parts.clear()
            return self._made

    def part(self, region: Region) -> ImageData:
        """Return the region as an image of its own. A converted part is kept, and serves for all regions inside it."""
        if self._convert_part is None:
            return super().part(region)
        with self._lock:
            if self._made is not None:
                return ImageData(self._made[region.slices])
            for known, pixels in self._parts:
                if known.contains(region):
                    return ImageData(pixels[region.relative_to(known).slices])
            (whole,) = aligned_boxes([region], self.planes.layout, self.size)
            pixels = self._convert_part(self._frame, whole)
            self._parts.append((whole, pixels))
            return ImageData(pixels[region.relative_to(whole).slices])

    def crop_rgb(self, region: Region) -> FloatImage:
        part = self.part(region)
        return part.crop_rgb(part.full_region)

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


class PartConverter:
    """Converts parts of a video's frames to RGB. All frames have the same tags, see `ffmpeg_rgb.FrameImages`.

    A part is copied into a smaller frame. FFmpeg makes that of a whole one, because it looks at tags that PyAV cannot set.
    The sides of a part are those of a grid, so that few smaller frames are needed."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._smaller: dict[tuple[int, int], Any] = {}
        """By width and height."""
        self._lock = threading.Lock()

    def __call__(self, frame: Any, region: Region) -> Pixels:
        """Return RGB [h, w, 3] of a region of the upright frame; see `upright_rgb`."""
        info, size, inside = self._info, (frame.width, frame.height), _before_orientation(region, self._info)
        source = inside.grown(PART_MARGIN).aligned(PART_GRID, PART_GRID).intersection(Region(0, 0, *size))
        width, height = source.x1 - source.x0, source.y1 - source.y0
        with self._lock:
            if (width, height) not in self._smaller:
                self._smaller[width, height] = frame.reformat(width=width, height=height, interpolation="POINT")
            part = self._smaller[width, height]
            copy_part(frame, source, part)
            rgb = to_rgb(part, info.colors, info.bits, size)
        return _upright(rgb[inside.relative_to(source).slices], info)


def upright_rgb(frame: Any, info: VideoInfo) -> Pixels:
    """Return RGB [H, W, 3] of uint8, or of uint16 for more than 8 bits."""
    return _upright(to_rgb(frame, info.colors, info.bits), info)


def _upright(pixels: Pixels, info: VideoInfo) -> Pixels:
    return np.ascontiguousarray(apply_orientation(pixels, info.orientation))


def _before_orientation(region: Region, info: VideoInfo) -> Region:
    """Return where a region of the upright frame is in the decoded one; see `apply_orientation`."""
    x0, y0, x1, y1 = vars(region).values()
    width, height = info.size
    if info.orientation in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    if info.orientation in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    return Region(y0, x0, y1, x1) if info.orientation >= 5 else Region(x0, y0, x1, y1)

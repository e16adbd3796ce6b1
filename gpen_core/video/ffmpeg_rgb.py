"""Finds out how FFmpeg converts a video to RGB, by a conversion of noise: where it takes the chroma samples to be, and
whether a part of a frame gives the same RGB as the whole.

FFmpeg 8 reads it from a tag of the frame, which PyAV shows from version 19 on. Earlier versions ignore the tag."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ..images.image import ImageData, Pixels, Region
from ..pipeline.device_check import CPU
from .frame_image import FrameImage, MakeImage, PartConverter, upright_rgb
from .planes import PLANAR_NAME, PixelFormat, Planes
from .probe import VideoInfo
from .torch_rgb import ChromaLayout, DevicePlanes

NOISE = 48, 208  # levels of 255: FFmpeg's sums overflow for colors that are much brighter than white
SIDE = 48  # px of the compared parts
PLACES = (0.5, 0.0), (0.5, 0.0, 1.0)  # across and down

log = logging.getLogger(__name__)


class FrameImages:
    """Makes the images of one video's frames, in the same way for frames with the same tags."""

    def __init__(self, choose: Callable[[Any, VideoInfo], MakeImage]) -> None:
        """`choose` gets the first PyAV frame with its tags and returns how such frames become images."""
        self._choose = choose
        self._makers: dict[tuple[Any, ...], MakeImage] = {}
        """By the tags that FFmpeg looks at when it converts a frame."""

    def __call__(self, frame: Any, planes: Planes, info: VideoInfo) -> ImageData:
        tags = frame.format.name, bool(frame.interlaced_frame), getattr(frame, "chroma_location", None)
        if tags not in self._makers:
            self._makers[tags] = self._choose(frame, info)
        return self._makers[tags](frame, planes, info)


def convert_parts(frame: Any, info: VideoInfo) -> MakeImage:
    """For `FrameImages`: only the parts that are read are converted, if FFmpeg can do that."""
    return partial(FrameImage, convert_part=find_part_converter(frame, info))


def find_chroma_layout(frame: Any, info: VideoInfo) -> ChromaLayout | None:
    """Return the layout with which `DevicePlanes` makes the same RGB as FFmpeg, within a level of 255.

    None if there is no such layout, and for formats without planes of the same content: those that are converted to other
    planes, and those whose chroma was repeated by a rotation. `frame` is PyAV's. It has its own content again afterwards."""
    if PixelFormat.parse(frame.format.name) is None or info.format != info.decoded_format:
        return None
    with _noise_in(frame):
        planes = Planes.from_frame(frame, info.decoded_format, info.colors).apply_orientation(info.orientation)
        expected = upright_rgb(frame, info)
    for x, y in product(*PLACES):
        layout = ChromaLayout(x, y, info.orientation)
        if _is_same(partial(_convert_on_cpu, planes, layout), expected, tolerance=1 if expected.dtype == np.uint8 else 257):
            return layout
    log.info("The CPU converts the frames of %s to RGB, because FFmpeg does it in an unknown way.", info.path)
    return None


def find_part_converter(frame: Any, info: VideoInfo) -> PartConverter | None:
    """Return a converter that makes exactly the RGB of a whole frame, for frames with the same tags.

    None if FFmpeg makes another one of a part, as for an odd width with subsampled chroma, and for formats that are not
    planar. `frame` is PyAV's. It has its own content again afterwards."""
    if PLANAR_NAME.fullmatch(frame.format.name) is None or PixelFormat.parse(frame.format.name) is None:
        return None
    convert = PartConverter(info)
    with _noise_in(frame):
        return convert if _is_same(partial(convert, frame), upright_rgb(frame, info)) else None


def _convert_on_cpu(planes: Planes, layout: ChromaLayout, region: Region) -> Pixels:
    return np.asarray(DevicePlanes.upload(planes, region, CPU, chroma=layout).to_rgb(region).numpy())


def _is_same(convert: Callable[[Region], Pixels], expected: Pixels, tolerance: int = 0) -> bool:
    """Whether a conversion of parts gives the expected RGB [H, W, 3], within levels of its type."""
    height, width = expected.shape[:2]
    x, y = max(0, (width - SIDE) // 2), max(0, (height - SIDE) // 2)
    for x0, y0 in ((0, 0), (x, y), (2 * x, 2 * y)):
        region = Region(x0, y0, min(x0 + SIDE, width), min(y0 + SIDE, height))
        if np.abs(convert(region).astype(np.int32) - expected[region.slices]).max() > tolerance:
            return False
    return True


@contextmanager
def _noise_in(frame: Any) -> Iterator[None]:
    """Fill the frame with noise, and with its own content again at the end."""
    frame.make_writable()
    saved = [bytes(plane) for plane in frame.planes]
    try:
        _fill_with_noise(frame)
        yield
    finally:
        for plane, content in zip(frame.planes, saved):
            plane.update(content)


def _fill_with_noise(frame: Any) -> None:
    """Fill a frame of any format that `PixelFormat.parse` knows."""
    bits = max(component.bits for component in frame.format.components)
    kind, shift = (np.dtype(np.uint8), 0) if bits == 8 else (np.dtype("<u2"), bits - 8)
    if bits > 8 and frame.format.name.startswith("p"):  # P010 and the like have their bits at the top
        shift = 8
    generator = np.random.default_rng(7)
    for plane in frame.planes:
        samples = np.frombuffer(plane, np.uint8)
        count = len(samples) // kind.itemsize
        samples[: count * kind.itemsize].view(kind)[...] = generator.integers(*NOISE, count) * 2**shift

"""Finds out where FFmpeg takes the chroma samples of a video to be, by a conversion of noise.

FFmpeg 8 reads it from a tag of the frame, which PyAV shows from version 19 on. Earlier versions ignore the tag."""

from __future__ import annotations

import logging
from itertools import product
from typing import Any

import numpy as np

from ..images.image import Pixels, Region
from ..pipeline.device_check import CPU
from .frame_image import upright_rgb
from .planes import PixelFormat, Planes
from .probe import VideoInfo
from .torch_rgb import ChromaLayout, DevicePlanes

NOISE = 48, 208  # levels of 255: FFmpeg's sums overflow for colors that are much brighter than white
SIDE = 48  # px of the compared parts
PLACES = (0.5, 0.0), (0.5, 0.0, 1.0)  # across and down

log = logging.getLogger(__name__)


def find_chroma_layout(frame: Any, info: VideoInfo) -> ChromaLayout | None:
    """Return the layout with which `DevicePlanes` makes the same RGB as FFmpeg, within a level of 255.

    None if there is no such layout, and for formats without planes of the same content: those that are converted to other
    planes, and those whose chroma was repeated by a rotation. `frame` is PyAV's. It has its own content again afterwards."""
    if PixelFormat.parse(frame.format.name) is None or info.format != info.decoded_format:
        return None
    frame.make_writable()
    saved = [bytes(plane) for plane in frame.planes]
    try:
        _fill_with_noise(frame)
        planes = Planes.from_frame(frame, info.decoded_format, info.colors).apply_orientation(info.orientation)
        expected = upright_rgb(frame, info)
    finally:
        for plane, content in zip(frame.planes, saved):
            plane.update(content)
    for x, y in product(*PLACES):
        layout = ChromaLayout(x, y, info.orientation)
        if _is_same(planes, layout, expected):
            return layout
    log.info("The CPU converts the frames of %s to RGB, because FFmpeg does it in an unknown way.", info.path)
    return None


def _is_same(planes: Planes, layout: ChromaLayout, expected: Pixels) -> bool:
    width, height = planes.size
    x, y = max(0, (width - SIDE) // 2), max(0, (height - SIDE) // 2)
    tolerance = 1 if expected.dtype == np.uint8 else 257
    for x0, y0 in ((0, 0), (x, y), (2 * x, 2 * y)):
        region = Region(x0, y0, min(x0 + SIDE, width), min(y0 + SIDE, height))
        found = DevicePlanes.upload(planes, region, CPU, chroma=layout).to_rgb(region).numpy()
        if np.abs(found.astype(np.int32) - expected[region.slices]).max() > tolerance:
            return False
    return True


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

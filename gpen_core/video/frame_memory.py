"""Estimates the memory for a video's frames in the pipeline, which does not depend on the video's length."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import OutOfMemory
from .encoding import Encoding
from .frame_restorer import PREFETCH_DEPTH
from .limits import decoder_threads, oom_message
from .planes import PixelFormat
from .probe import VideoInfo
from .temporal_filter import GUIDE_SIZE
from .track_plan import TrackPlan

QUEUE_COUNT = 4  # queues after decoding, the network, the filter and pasting
# Measured at 1920 x 1080 to 7680 x 4320 on two cores (docs/video-benchmarks.md): frames in the stages, including
# conversions between planes and RGB, and a constant part, mostly the allocator's.
FRAMES_IN_STAGES = 8
BASE_BYTES = 384 << 20
RGB_VALUES, MASK_BYTES = 3, 5  # per pixel: values of an image; bytes of a result's mask and of its changed pixels
# Bytes per pixel of 4:2:0 that an encoder needs for 8 bits and for more, when its look-ahead is full.
ENCODER_BYTES = {
    "libx264": (184, 368),
    "libx265": (212, 300),
    "libsvtav1": (360, 360),
    "libvpx-vp9": (144, 288),
    "ffv1": (42, 50),
    **dict.fromkeys(("mpeg4", "mpeg2video", "mjpeg", "prores_ks", "images"), (30, 60)),
}
DEFAULT_ENCODER_BYTES = (184, 368)
LOOKAHEAD_FRAMES = 48
REFERENCE_DECODER_THREADS = 2  # frames that were decoded at once when FRAMES_IN_STAGES was measured
LAYER_BYTES = 3 * 2 + 4  # per pixel of a restored crop and its mask in the filter's window
GUIDE_BYTES = 16 * GUIDE_SIZE**2  # per frame of the window: its guide, and the flow to the other frames


def prefetch_depth(
    info: VideoInfo,
    encoding: Encoding,
    plans: Sequence[TrackPlan],
    radius: int,
    max_memory: int | None,
    count: int | None = None,
) -> int:
    """Return how many frames may wait between two stages within `max_memory` (bytes).

    `count`: the number of the video's frames, if known. Raises `OutOfMemory` if even one frame needs more memory."""
    if max_memory is None:
        return PREFETCH_DEPTH
    for depth in range(PREFETCH_DEPTH, 0, -1):
        needed = estimate_bytes(info, encoding, plans, radius, depth, count)
        if needed <= max_memory:
            return depth
    raise OutOfMemory(oom_message(info.path, info.size, needed, max_memory))


def estimate_bytes(
    info: VideoInfo, encoding: Encoding, plans: Sequence[TrackPlan], radius: int, depth: int, count: int | None = None
) -> int:
    """Estimate the bytes for frames between the stages, in the encoder and in the filters, without the networks."""
    pixels, value = info.size[0] * info.size[1], 1 if info.bits == 8 else 2
    frames = QUEUE_COUNT * depth + FRAMES_IN_STAGES + radius
    if count is not None:
        frames = min(frames, count)
    values = frames * (RGB_VALUES + _values_per_pixel(info.layout)) * value
    values += (depth + 2) * (RGB_VALUES * value + MASK_BYTES)
    values += max(0, decoder_threads(pixels) - REFERENCE_DECODER_THREADS) * _values_per_pixel(info.layout) * value
    return int(pixels * (values + _encoder_bytes(encoding, count))) + BASE_BYTES + _filter_bytes(plans, radius)


def _values_per_pixel(layout: PixelFormat) -> float:
    """Return the average number of values per pixel."""
    return layout.has_alpha + sum(1 / math.prod(layout.subsampling(number)) for number in range(layout.color_planes))


def _encoder_bytes(encoding: Encoding, count: int | None) -> float:
    """Return the encoder's bytes per pixel."""
    bytes_420 = ENCODER_BYTES.get(encoding.encoder, DEFAULT_ENCODER_BYTES)[encoding.layout.bits > 8]
    whole = bytes_420 * _values_per_pixel(encoding.layout) / _values_per_pixel(PixelFormat.of("yuv420p"))
    return whole if count is None else whole * min(1.0, (count + 4) / LOOKAHEAD_FRAMES)


def _filter_bytes(plans: Sequence[TrackPlan], radius: int) -> int:
    """Return the peak bytes of the filters' windows."""
    changes: dict[int, int] = {}
    for one in plans:
        side = one.size // one.downscale
        size = (2 * radius + 1) * (side**2 * LAYER_BYTES + GUIDE_BYTES)
        changes[one.track.first] = changes.get(one.track.first, 0) + size
        end = one.track.last + radius + 1
        changes[end] = changes.get(end, 0) - size
    peak = now = 0
    for number in sorted(changes):
        now += changes[number]
        peak = max(peak, now)
    return peak

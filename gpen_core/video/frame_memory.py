"""How much memory a video's frames take while they are at work, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import OutOfMemory
from .encoding import Encoding
from .frame_restorer import PREFETCH_DEPTH, TrackPlan
from .limits import decoder_threads, oom_message
from .planes import PixelFormat
from .probe import VideoInfo
from .temporal_filter import GUIDE_SIZE

QUEUE_COUNT = 4  # that frames wait between: decoding, the network, the filter, pasting
# Measured at 1920 x 1080 to 7680 x 4320 on two cores (docs/video.md): frames that the stages themselves hold, with what
# conversions between planes and RGB take, and what does not grow with the frame, mostly the allocator's.
FRAMES_IN_STAGES = 8
BASE_BYTES = 384 << 20
RGB_VALUES, MASK_BYTES = 3, 5  # values of an image, bytes of a result's mask and of what it touched, each a pixel
# Bytes that an encoder holds for each pixel of 4:2:0, with 8 bits and with more, once its look-ahead is full.
ENCODER_BYTES = {
    "libx264": (184, 368),
    "libx265": (212, 300),
    "libsvtav1": (360, 360),
    "libvpx-vp9": (144, 288),
    "ffv1": (42, 50),
    **dict.fromkeys(("mpeg4", "mpeg2video", "mjpeg", "prores_ks", "images"), (30, 60)),
}
DEFAULT_ENCODER_BYTES = (184, 368)
LOOKAHEAD_FRAMES = 48  # frames
REFERENCE_DECODER_THREADS = 2  # frames that were decoded at once when AT_WORK was measured
LAYER_BYTES = 3 * 2 + 4  # bytes a pixel of a restored crop in the filter's window, and of its mask
GUIDE_BYTES = 16 * GUIDE_SIZE**2  # bytes a frame of the window: its guide, and where it lies in the others


def prefetch_depth(
    info: VideoInfo,
    encoding: Encoding,
    plans: Sequence[TrackPlan],
    radius: int,
    max_memory: int | None,
    count: int | None = None,
) -> int:
    """How many frames may wait between two stages. Raises `OutOfMemory` where even one is more than `max_memory` (bytes)
    allows. `count`: of the video's frames, where it is known."""
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
    """Estimated, for frames between the stages, in the encoder and in the filters; not for the networks."""
    pixels, value = info.size[0] * info.size[1], 1 if info.bits == 8 else 2
    frames = QUEUE_COUNT * depth + FRAMES_IN_STAGES + radius
    if count is not None:
        frames = min(frames, count)
    values = frames * (RGB_VALUES + _values_per_pixel(info.format)) * value
    values += (depth + 2) * (RGB_VALUES * value + MASK_BYTES)
    values += max(0, decoder_threads(pixels) - REFERENCE_DECODER_THREADS) * _values_per_pixel(info.format) * value
    return int(pixels * (values + _encoder_bytes(encoding, count))) + BASE_BYTES + _filter_bytes(plans, radius)


def _values_per_pixel(format_: str) -> float:
    """Values a pixel."""
    layout = PixelFormat.parse(format_)
    assert layout is not None
    color = {"gray": 1.0, "gbrp": 3.0}.get(layout.kind, 1 + 2 / (layout.subsampling_x * layout.subsampling_y))
    return color + layout.has_alpha


def _encoder_bytes(encoding: Encoding, count: int | None) -> float:
    """Bytes a pixel."""
    layout = PixelFormat.parse(encoding.format)
    assert layout is not None
    whole = (
        ENCODER_BYTES.get(encoding.encoder, DEFAULT_ENCODER_BYTES)[layout.bits > 8]
        * _values_per_pixel(encoding.format)
        / _values_per_pixel("yuv420p")
    )
    return whole if count is None else whole * min(1.0, (count + 4) / LOOKAHEAD_FRAMES)


def _filter_bytes(plans: Sequence[TrackPlan], radius: int) -> int:
    """At the moment when most is in their windows."""
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

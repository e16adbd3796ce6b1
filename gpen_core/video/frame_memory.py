"""How much memory a video's frames take while they are at work, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import OutOfMemory
from .encoding import Encoding
from .frame_restorer import DEPTH, Chosen
from .limits import decoded_at_once, too_little
from .planes import Layout
from .probe import Film
from .temporal_filter import GUIDE

STAGES = 4  # that frames wait between: decoding, the network, the filter, pasting
# Measured at 1920 x 1080 to 7680 x 4320 on two cores (docs/video.md): frames that the stages themselves hold, with what
# conversions between planes and RGB take, and what does not grow with the frame, mostly the allocator's.
AT_WORK = 8
FIXED = 384 << 20
RGB, MASKS = 3, 5  # values of a picture, bytes of a result's mask and of what it touched, each a pixel
# Bytes that an encoder holds for each pixel of 4:2:0, with 8 bits and with more, once its look-ahead is full.
ENCODERS = {
    "libx264": (184, 368),
    "libx265": (212, 300),
    "libsvtav1": (360, 360),
    "libvpx-vp9": (144, 288),
    "ffv1": (42, 50),
    **dict.fromkeys(("mpeg4", "mpeg2video", "mjpeg", "prores_ks", "pictures"), (30, 60)),
}
ANY_ENCODER = (184, 368)
LOOK_AHEAD = 48  # frames
DECODED = 2  # frames that were decoded at once when AT_WORK was measured
LAYER = 3 * 2 + 4  # bytes a pixel of a restored crop in the filter's window, and of its mask
GUIDES = 16 * GUIDE**2  # bytes a frame of the window: its guide, and where it lies in the others


def depth_for(
    film: Film, encoding: Encoding, chosen: Sequence[Chosen], radius: int, max_memory: int | None, count: int | None = None
) -> int:
    """How many frames may wait between two stages. Raises `OutOfMemory` where even one is more than `max_memory` (bytes)
    allows. `count`: of the video's frames, where it is known."""
    if max_memory is None:
        return DEPTH
    for depth in range(DEPTH, 0, -1):
        least = needed_bytes(film, encoding, chosen, radius, depth, count)
        if least <= max_memory:
            return depth
    raise OutOfMemory(too_little(film.path, film.size, least, max_memory))


def needed_bytes(
    film: Film, encoding: Encoding, chosen: Sequence[Chosen], radius: int, depth: int, count: int | None = None
) -> int:
    """Estimated, for frames between the stages, in the encoder and in the filters; not for the networks."""
    pixels, value = film.size[0] * film.size[1], 1 if film.bits == 8 else 2
    frames = STAGES * depth + AT_WORK + radius
    if count is not None:
        frames = min(frames, count)
    held = frames * (RGB + _planes(film.format)) * value
    held += (depth + 2) * (RGB * value + MASKS)
    held += max(0, decoded_at_once(pixels) - DECODED) * _planes(film.format) * value
    return int(pixels * (held + _in_encoder(encoding, count))) + FIXED + _in_filters(chosen, radius)


def _planes(format_: str) -> float:
    """Values a pixel."""
    layout = Layout.of(format_)
    assert layout is not None
    return {"gray": 1.0, "gbrp": 3.0}.get(layout.kind, 1 + 2 / (layout.across * layout.down))


def _in_encoder(encoding: Encoding, count: int | None) -> float:
    """Bytes a pixel."""
    layout = Layout.of(encoding.format)
    assert layout is not None
    whole = ENCODERS.get(encoding.encoder, ANY_ENCODER)[layout.bits > 8] * _planes(encoding.format) / _planes("yuv420p")
    return whole if count is None else whole * min(1.0, (count + 4) / LOOK_AHEAD)


def _in_filters(chosen: Sequence[Chosen], radius: int) -> int:
    """At the moment when most is in their windows."""
    changes: dict[int, int] = {}
    for one in chosen:
        side = one.size // one.reduced
        taken = (2 * radius + 1) * (side**2 * LAYER + GUIDES)
        changes[one.track.first] = changes.get(one.track.first, 0) + taken
        end = one.track.last + radius + 1
        changes[end] = changes.get(end, 0) - taken
    most = now = 0
    for number in sorted(changes):
        now += changes[number]
        most = max(most, now)
    return most

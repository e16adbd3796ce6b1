"""How much memory a film's frames take while they are at work, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import OutOfMemory
from .frames import DEPTH, Chosen
from .probe import Film
from .steady import GUIDE

STAGES = 4  # that frames wait between: decoding, the network, the filter, pasting
# Measured at 3840 x 2160 (benchmarks/video.py memory), with what conversions between planes and RGB take: frames in the
# hands of the stages themselves, and frames that the encoder holds. x264 looks 40 ahead, and keeps references besides.
AT_WORK = 24
LOOK_AHEAD = 110
RGB, PLANES, RESULT = (
    3,
    1.5,
    8,
)  # values a pixel: a picture, its planes in 4:2:0; bytes of a result, its mask and what it touched
LAYER = 3 * 2 + 4  # bytes a pixel of a restored crop in the filter's window, and of its mask
GUIDES = 16 * GUIDE**2  # bytes a frame of the window: its guide, and where it lies in the others


def depth_for(film: Film, chosen: Sequence[Chosen], radius: int, max_memory: int | None) -> int:
    """How many frames may wait between two stages. Raises `OutOfMemory` where even one is more than `max_memory` (bytes)
    allows."""
    if max_memory is None:
        return DEPTH
    for depth in range(DEPTH, 0, -1):
        if needed_bytes(film, chosen, radius, depth) <= max_memory:
            return depth
    least = needed_bytes(film, chosen, radius, 1) / 2**20
    raise OutOfMemory(
        f"Frames of {film.size[0]}x{film.size[1]} and their faces take about {least:.0f} MiB while they are at work; the "
        f"budget is {max_memory / 2**20:.0f} MiB. Allow more, or take no steadiness, fewer faces or a smaller film."
    )


def needed_bytes(film: Film, chosen: Sequence[Chosen], radius: int, depth: int) -> int:
    """Estimated, for frames between the stages, in the encoder and in the filters; not for the networks."""
    pixels = film.size[0] * film.size[1]
    value = 1 if film.bits == 8 else 2
    frames = STAGES * depth + AT_WORK + radius
    held = frames * (RGB + PLANES) * value + (depth + 2) * RESULT * value + LOOK_AHEAD * PLANES * value
    return int(pixels * held) + _in_filters(chosen, radius)


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

"""What is refused from a video's header, before a frame is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import OutOfMemory, TooLarge
from ..pictures.files import MAX_PIXELS

DECODER = {"max_pixels": str(MAX_PIXELS)}
"""FFmpeg's decoders refuse larger frames, also those that FFmpeg decodes while it opens a file."""
LEAST = 90  # bytes a pixel of 8 bits that frames at work take with the shortest queues, without the encoder; see `memory`


def limit_decoders(container: Any) -> None:
    """Sets the limit for all video streams of an open container: frames may be larger than the header says."""
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = {**stream.codec_context.options, **DECODER}


def refuse_large(path: Path, size: tuple[int, int], max_memory: int | None) -> None:
    """Raises `TooLarge` for frames of more than `MAX_PIXELS`, and `OutOfMemory` for frames that cannot fit into `max_memory`
    bytes whatever encoder is used. `size`: width and height from the header."""
    pixels = size[0] * size[1]
    if pixels > MAX_PIXELS:
        raise TooLarge(
            f"{path} has frames of {size[0]} x {size[1]} pixels: at most {MAX_PIXELS / 1e6:.0f} million are read."
        )
    if max_memory is not None and pixels * LEAST > max_memory:
        raise OutOfMemory(too_little(path, size, pixels * LEAST, max_memory))


def too_little(path: Path, size: tuple[int, int], needed: int, allowed: int) -> str:
    """The message that names both figures."""
    return (
        f"{path}: frames of {size[0]} x {size[1]} take about {needed / 1e9:.1f} GB while they are at work, and "
        f"{allowed / 1e9:.1f} GB are allowed. Allow more, or restore a smaller video."
    )

"""What is refused from a video's header, before a frame is decoded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ImageTooLarge, OutOfMemory
from ..images.size_limits import MAX_PIXELS

DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
"""FFmpeg's decoders refuse larger frames."""
MIN_BYTES_PER_PIXEL = (
    90  # bytes a pixel of 8 bits that frames at work take with the shortest queues, without the encoder; see `memory`
)
LARGE_FRAME_PIXELS = 12_000_000  # pixels: of frames beyond 4K fewer are decoded at once
MAX_DECODER_THREADS, LARGE_FRAME_THREADS = 16, 4  # frames that are decoded at once at most; FFmpeg takes no more than 16


def limit_decoders(container: Any) -> None:
    """Sets the limits for all video streams of an open container: frames may be larger than the header says."""
    for stream in container.streams.video:
        context = stream.codec_context
        if context is not None:
            context.options = {**context.options, **DECODER_OPTIONS}
            if context.width * context.height > LARGE_FRAME_PIXELS:
                context.thread_count = LARGE_FRAME_THREADS


def decoder_threads(pixels: int) -> int:
    """How many frames of so many pixels a decoder works on."""
    return min(os.cpu_count() or 1, LARGE_FRAME_THREADS if pixels > LARGE_FRAME_PIXELS else MAX_DECODER_THREADS)


def raise_if_too_large(path: Path, size: tuple[int, int], max_memory: int | None) -> None:
    """Raises `ImageTooLarge` for frames of more than `MAX_PIXELS`, and `OutOfMemory` for frames that cannot fit into
    `max_memory` bytes whatever encoder is used. `size`: width and height from the header."""
    pixels = size[0] * size[1]
    if pixels > MAX_PIXELS:
        raise ImageTooLarge(
            f"{path} has frames of {size[0]} x {size[1]} pixels: at most {MAX_PIXELS / 1e6:.0f} million are read."
        )
    if max_memory is not None and pixels * MIN_BYTES_PER_PIXEL > max_memory:
        raise OutOfMemory(oom_message(path, size, pixels * MIN_BYTES_PER_PIXEL, max_memory))


def oom_message(path: Path, size: tuple[int, int], needed_bytes: int, allowed_bytes: int) -> str:
    """The message that names both figures."""
    return (
        f"{path}: frames of {size[0]} x {size[1]} take about {needed_bytes / 1e9:.1f} GB while they are at work, and "
        f"{allowed_bytes / 1e9:.1f} GB are allowed. Allow more, or restore a smaller video."
    )

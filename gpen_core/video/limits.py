"""Limits on the frame size, checked in a video's header before a frame is decoded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ImageTooLarge, OutOfMemory
from ..files.size_text import memory_text
from ..images.size_limits import MAX_PIXELS

DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
"""FFmpeg's decoders refuse larger frames."""
# For frames of 8 bits in the pipeline with the shortest queues, without the encoder; see `frame_memory`.
MIN_BYTES_PER_PIXEL = 90
LARGE_FRAME_PIXELS = 12_000_000  # beyond 4K, fewer frames are decoded at once
UNALIGNED = 1  # AV_CODEC_FLAG_UNALIGNED: crops the exact columns at the left, at any address in memory
MAX_DECODER_THREADS, LARGE_FRAME_THREADS = 16, 4  # frames that are decoded at once; FFmpeg's limit is 16


def limit_decoders(container: Any) -> None:
    """Set the limits for all video streams of an open container, because frames may be larger than its header says."""
    for stream in container.streams.video:
        context = stream.codec_context
        if context is not None:
            limit_decoder(context, context.width * context.height)


def limit_decoder(context: Any, pixels: int) -> None:
    """Set the limits for a decoder of frames with this many pixels, and exact cropping."""
    context.options = {**context.options, **DECODER_OPTIONS}
    context.flags |= UNALIGNED
    if pixels > LARGE_FRAME_PIXELS:
        context.thread_count = LARGE_FRAME_THREADS


def decoder_threads(pixels: int) -> int:
    """Return how many frames of this many pixels are decoded at once."""
    return min(os.cpu_count() or 1, LARGE_FRAME_THREADS if pixels > LARGE_FRAME_PIXELS else MAX_DECODER_THREADS)


def raise_if_too_large(path: Path, size: tuple[int, int], max_memory: int | None) -> None:
    """Raise `ImageTooLarge` for frames of more than `MAX_PIXELS`, and `OutOfMemory` for frames that do not fit into
    `max_memory` bytes with any encoder. `size`: width and height from the header."""
    pixels = size[0] * size[1]
    if pixels > MAX_PIXELS:
        raise ImageTooLarge(f"{path} has frames of {size[0]} x {size[1]} pixels, more than the limit of {MAX_PIXELS:,}.")
    if max_memory is not None and pixels * MIN_BYTES_PER_PIXEL > max_memory:
        raise OutOfMemory(oom_message(path, size, pixels * MIN_BYTES_PER_PIXEL, max_memory))


def oom_message(path: Path, size: tuple[int, int], needed_bytes: int, allowed_bytes: int) -> str:
    """Return the error message for frames that need too much memory."""
    return (
        f"{path}: frames of {size[0]} x {size[1]} need about {memory_text(needed_bytes)} of memory, but the limit is "
        f"{memory_text(allowed_bytes)}. Raise the limit, or restore a smaller video."
    )

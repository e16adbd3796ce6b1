"""Memory estimates per face, with and without strips."""

from __future__ import annotations

import torch

from .config import GPENConfig
from .winograd import max_bytes

CACHE_STRIP_BYTES = 16 << 20  # bytes of features between two layers, small enough for a CPU's caches
STRIP_BUFFERS = 6  # buffers of that size alive at the same time


def bytes_per_face(config: GPENConfig, dtype: torch.dtype, strip_bytes: int | None = None) -> int:
    """Estimate the memory for the activations of one face, in bytes, without the weights.

    In strips, the peak is at the second-to-last level. It holds the image, the encoder's features at half size, the input
    features at a quarter size and the output features at half size. Without strips, the peak is at the last level, with the
    outputs of its layers."""
    element = torch.empty(0, dtype=dtype).element_size()
    width = config.channels(config.size)
    planes = 3 + 2 * width if strip_bytes is not None else 3 + 9 * width
    rgb_bytes = 3 * 4 * 2  # float32: the RGB sum and its upsampled copy
    buffers = 0
    if strip_bytes is not None:
        buffers = STRIP_BUFFERS * strip_bytes
        if dtype == torch.float32:  # Winograd convolutions, which the CPU uses, always in strips
            buffers += max_bytes(config.channels(4), 2 * config.channels(4))
    return config.size**2 * (planes * element + rgb_bytes) + buffers


def min_bytes(config: GPENConfig, dtype: torch.dtype) -> int:
    """The least memory that one face needs, in bytes. Small networks need less without strips."""
    return min(bytes_per_face(config, dtype, CACHE_STRIP_BYTES), bytes_per_face(config, dtype))

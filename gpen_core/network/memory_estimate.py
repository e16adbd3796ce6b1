"""How much memory a face takes, and how large the strips are that it is computed in where it is to take less."""

from __future__ import annotations

import torch

from .config import GPENConfig
from .winograd import max_bytes

CACHE_STRIP_BYTES = 16 << 20  # bytes of features between two layers: on the CPU they are to stay in its caches
STRIP_BUFFERS = 6  # of that size, alive at once


def bytes_per_face(config: GPENConfig, dtype: torch.dtype, strip_bytes: int | None = None) -> int:
    """Estimated memory for the activations of one face, beside the weights.

    In strips, most is alive in the last level but one: the image, the features of half the size from the encoder, those
    of a quarter that come in and those of half that go out. In one piece, it is the last level with its layers' outputs."""
    element = torch.empty(0, dtype=dtype).element_size()
    width = config.channels(config.size)
    planes = 3 + 2 * width if strip_bytes is not None else 3 + 9 * width
    rgb_bytes = 3 * 4 * 2  # float32: the sum so far, and upsampled
    buffers = 0
    if strip_bytes is not None:
        buffers = STRIP_BUFFERS * strip_bytes
        if dtype == torch.float32:  # the CPU convolves so, and it is always in strips
            buffers += max_bytes(config.channels(4), 2 * config.channels(4))
    return config.size**2 * (planes * element + rgb_bytes) + buffers


def min_bytes(config: GPENConfig, dtype: torch.dtype) -> int:
    """The least that a face can be computed in; for small networks that is in one piece."""
    return min(bytes_per_face(config, dtype, CACHE_STRIP_BYTES), bytes_per_face(config, dtype))

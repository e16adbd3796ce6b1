"""How much memory a face takes, and how large the strips are that it is computed in where it is to take less."""

from __future__ import annotations

import torch

from .config import GPENConfig
from .winograd import most_bytes

CACHE_STRIP = 16 << 20  # bytes of features between two layers: on the CPU they are to stay in its caches
STRIP_BUFFERS = 6  # of that size, alive at once


def face_bytes(config: GPENConfig, dtype: torch.dtype, strip_bytes: int | None = None) -> int:
    """Estimated memory for the activations of one face, beside the weights.

    In strips, most is alive in the last level but one: the picture, the features of half the size from the encoder, those
    of a quarter that come in and those of half that go out. In one piece, it is the last level with its layers' outputs."""
    element = torch.empty(0, dtype=dtype).element_size()
    width = config.channels(config.size)
    planes = 3 + 2 * width if strip_bytes is not None else 3 + 9 * width
    pictures = 3 * 4 * 2  # float32: the sum so far, and upsampled
    buffers = 0
    if strip_bytes is not None:
        buffers = STRIP_BUFFERS * strip_bytes
        if dtype == torch.float32:  # the CPU convolves so, and it is always in strips
            buffers += most_bytes(config.channels(4), 2 * config.channels(4))
    return config.size**2 * (planes * element + pictures) + buffers


def least_bytes(config: GPENConfig, dtype: torch.dtype) -> int:
    """The least that a face can be computed in; for small networks that is in one piece."""
    return min(face_bytes(config, dtype, CACHE_STRIP), face_bytes(config, dtype))

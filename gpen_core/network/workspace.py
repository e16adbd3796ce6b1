"""Memory that is used again for the next face.

On the CPU, the system takes a fifth of the network's time to hand out the pages of large new buffers, face after face. On
other devices torch keeps what was freed, so there nothing is kept here.
"""

from __future__ import annotations

import math

import torch

from .layers import empty_like_order


class Workspace:
    """Buffers by name. Asking for a name again gives the same memory, so what was got before under it is lost."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, int, int, int], like: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] in `like`'s type, device and memory order; what it holds is not defined."""
        if like.device.type != "cpu" or not like.is_contiguous(memory_format=torch.channels_last):
            return empty_like_order(shape, like)
        numel = math.prod(shape)
        kept = self._buffers.get(name)
        if kept is None or kept.dtype != like.dtype or kept.numel() < numel:
            self._buffers.pop(name, None)
            kept = self._buffers[name] = torch.empty(numel, dtype=like.dtype)
        batch, channels, height, width = shape
        return kept[:numel].view(batch, height, width, channels).permute(0, 3, 1, 2)  # BHWC -> BCHW

    def clear(self) -> None:
        """Gives the memory back."""
        self._buffers.clear()

"""Memory that is used again for the next face.

On the CPU, the system takes a fifth of the network's time to hand out the pages of large new buffers, face after face. On
other devices torch keeps what was freed, so there nothing is kept here.
"""

from __future__ import annotations

import math

import torch


def empty_like_format(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] of memory in `like`'s type, device and order; what it holds is not defined."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=order)


class BufferPool:
    """Buffers by name. Asking for a name again gives the same memory, so what was got before under it is lost."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def get(self, name: str, shape: tuple[int, int, int, int], like: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] in `like`'s type, device and memory order; what it holds is not defined."""
        if not like.is_contiguous(memory_format=torch.channels_last):
            return empty_like_format(shape, like)
        batch, channels, height, width = shape
        return self.get_contiguous(name, (batch, height, width, channels), like).permute(0, 3, 1, 2)  # BHWC -> BCHW

    def get_contiguous(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """A tensor in row-major order of `like`'s type and device; what it holds is not defined."""
        if like.device.type != "cpu":
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        numel = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.dtype != like.dtype or buffer.numel() < numel:
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = torch.empty(numel, dtype=like.dtype)
        return buffer[:numel].view(shape)

    def clear(self) -> None:
        """Gives the memory back."""
        self._buffers.clear()

"""Buffers that are reused from face to face.

On the CPU, the operating system spends a fifth of the network's time on mapping pages for large new buffers. On other
devices torch caches freed memory itself, so this pool keeps nothing there.
"""

from __future__ import annotations

import math

import torch


def empty_like_format(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """An uninitialized tensor [B, C, H, W] with the dtype, device and memory format of `like`."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=order)


class BufferPool:
    """Named buffers. A second request for a name reuses its memory and overwrites the earlier contents."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def get(self, name: str, shape: tuple[int, int, int, int], like: torch.Tensor) -> torch.Tensor:
        """An uninitialized buffer [B, C, H, W] with the dtype, device and memory format of `like`."""
        if not like.is_contiguous(memory_format=torch.channels_last):
            return empty_like_format(shape, like)
        batch, channels, height, width = shape
        return self.get_contiguous(name, (batch, height, width, channels), like).permute(0, 3, 1, 2)  # BHWC -> BCHW

    def get_contiguous(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """An uninitialized buffer in row-major order with the dtype and device of `like`."""
        if like.device.type != "cpu":
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        numel = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.dtype != like.dtype or buffer.numel() < numel:
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = torch.empty(numel, dtype=like.dtype, device=like.device)
        return buffer[:numel].view(shape)

    def clear(self) -> None:
        """Free all buffers."""
        self._buffers.clear()

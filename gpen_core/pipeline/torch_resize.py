"""Reducing by area as OpenCV does, by any factor, on any device."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ..faces.detection.pyramid import size_at

AT_ONCE = 1 << 23  # values of a picture as high as its reduction and as wide as it is: they and their sum take some 80 MB
LEAST = 1e-3  # of a pixel: OpenCV leaves out what a cell has less of


def resized(batch: torch.Tensor, longest: int) -> torch.Tensor:
    """[B, H, W, C] of any numbers to a longer side of `longest` pixels, float32, as `pyramid.resized`."""
    height, width = batch.shape[1:3]
    factor = longest / max(height, width)
    if factor == 1:
        return batch.to(torch.float32)
    size = size_at(width, height, factor)
    return by_area(batch, size) if factor < 1 else _enlarged(batch.to(torch.float32), size)


def by_area(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B, H, W, C] of any numbers, reduced to `size` (width, height) -> float32: each pixel is the mean of what it covers,
    pixels at its edges by their share."""
    count, height, width, channels = batch.shape
    down, across = _shares(height, size[1], batch.device), _shares(width, size[0], batch.device)
    at_once = max(1, AT_ONCE // (count * width * channels))
    bands = zip(*(torch.split(one, at_once, 1) for one in down))
    return torch.cat([_summed(_summed(batch, 1, *band), 2, *across) for band in bands], 1)


def _summed(batch: torch.Tensor, dim: int, places: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Along one dimension the sums of the values at `places` [K, n], `parts` [K, n] of each."""
    total: torch.Tensor | None = None
    for where, part in zip(places, parts):
        values = batch.index_select(dim, where).to(torch.float32)
        part = part.view([-1 if n == dim else 1 for n in range(4)])
        total = values * part if total is None else total.addcmul_(values, part)
    assert total is not None  # a cell covers something
    return total


@lru_cache(maxsize=64)  # not to be written to
def _shares(source: int, target: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """[K, target] each: which of `source` pixels a cell covers, and what part of it each of them is."""
    scale = source / target
    low = np.arange(target) * scale
    width = np.minimum(scale, source - low)
    places = np.floor(low).astype(np.int64) + np.arange(int(np.ceil(scale)) + 1)[:, None]
    covered = np.minimum(places + 1, low + width) - np.maximum(places, low)
    parts = np.where(covered > LEAST, covered / width, 0)
    used = parts.any(axis=1)
    places = places[used].clip(max=source - 1)
    return torch.from_numpy(places).to(device), torch.from_numpy(parts[used].astype(np.float32)).to(device)


def _enlarged(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    planes = batch.permute(0, 3, 1, 2)  # BHWC -> BCHW
    return F.interpolate(planes, size=size[::-1], mode="bilinear", align_corners=False).permute(0, 2, 3, 1)

"""Resizing on any device: by area where an image gets smaller, else linearly, as `images.resize.resize` does with OpenCV."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

MAX_BAND_VALUES = (
    1 << 23
)  # values of an image as high as its reduction and as wide as it is: they and their sum take some 80 MB
MIN_COVERAGE = 1e-3  # of a pixel: OpenCV leaves out what a cell has less of


def resize(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B, H, W, C] of any numbers to `size` (width, height) -> float32.

    A batch that gets narrower, or lower at the same width, is reduced by area, by any factor (`area_resize`). Any other is
    interpolated linearly."""
    height, width = batch.shape[1:3]
    if size < (width, height):
        return area_resize(batch, size)
    batch = batch.to(torch.float32)
    if size == (width, height):
        return batch
    return _upsample_bilinear(batch.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)  # BHWC -> BCHW -> BHWC


def resize_crop(crop: torch.Tensor, side: int) -> torch.Tensor:
    """[C, S, S], float32, to [C, side, side]: reduced by area where S is a multiple of `side`, else interpolated linearly.

    One pass over the crop; `resize` takes several for factors that are not whole."""
    if crop.shape[-1] > side:
        return downsample(crop, crop.shape[-1] // side)
    return crop if crop.shape[-1] == side else _upsample_bilinear(crop[None], (side, side))[0]


def downsample(image: torch.Tensor, factor: int) -> torch.Tensor:
    """[C, H, W], float32, with `factor` x `factor` pixels averaged into one; the border is repeated where a block is not
    full."""
    height, width = image.shape[1:]
    bottom, right = -height % factor, -width % factor
    if bottom or right:
        image = F.pad(image[None], (0, right, 0, bottom), mode="replicate")[0]
    return F.avg_pool2d(image[None], factor)[0]


def area_resize(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B, H, W, C] of any numbers, reduced to `size` (width, height) -> float32: each pixel is the mean of what it covers,
    pixels at its edges by their share."""
    count, height, width, channels = batch.shape
    down, across = _area_weights(height, size[1], batch.device), _area_weights(width, size[0], batch.device)
    at_once = max(1, MAX_BAND_VALUES // (count * width * channels))
    bands = zip(*(torch.split(one, at_once, 1) for one in down))
    return torch.cat([_weighted_sum(_weighted_sum(batch, 1, *band), 2, *across) for band in bands], 1)


def _weighted_sum(batch: torch.Tensor, dim: int, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Along one dimension the sums of the values at `indices` [K, n], `weights` [K, n] of each."""
    total: torch.Tensor | None = None
    for index, weight in zip(indices, weights):
        values = batch.index_select(dim, index).to(torch.float32)
        weight = weight.view([-1 if n == dim else 1 for n in range(4)])
        total = values * weight if total is None else total.addcmul_(values, weight)
    assert total is not None  # a cell covers something
    return total


@lru_cache(maxsize=64)  # not to be written to
def _area_weights(source: int, target: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """[K, target] each: which of `source` pixels a cell covers, and what part of it each of them is."""
    scale = source / target
    low = np.arange(target) * scale
    width = np.minimum(scale, source - low)
    indices = np.floor(low).astype(np.int64) + np.arange(int(np.ceil(scale)) + 1)[:, None]
    covered = np.minimum(indices + 1, low + width) - np.maximum(indices, low)
    weights = np.where(covered > MIN_COVERAGE, covered / width, 0)
    used = weights.any(axis=1)
    indices = indices[used].clip(max=source - 1)
    return torch.from_numpy(indices).to(device), torch.from_numpy(weights[used].astype(np.float32)).to(device)


def _upsample_bilinear(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B, C, H, W] to `size` (width, height)."""
    return F.interpolate(planes, size=size[::-1], mode="bilinear", align_corners=False)

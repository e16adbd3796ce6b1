"""Resizing in torch, for any device: by area to reduce, linearly to enlarge, like `images.resize.resize` with OpenCV."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

# Values of a band, which has the output's height and the input's width. With their sum they need about 80 MB.
MAX_BAND_VALUES = 1 << 23
MIN_COVERAGE = 1e-3  # of a pixel: OpenCV ignores pixels that a cell covers less


def resize(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize [B, H, W, C] of any dtype to `size` (width, height) in float32.

    If the width gets smaller, or the height at the same width, `area_resize` reduces the batch by any factor. Otherwise it
    is interpolated linearly."""
    height, width = batch.shape[1:3]
    if size < (width, height):
        return area_resize(batch, size)
    batch = batch.to(torch.float32)
    if size == (width, height):
        return batch
    return _upsample_bilinear(batch.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)  # BHWC -> BCHW -> BHWC


def resize_crop(crop: torch.Tensor, side: int) -> torch.Tensor:
    """Resize [C, S, S], float32, to [C, side, side]: by area if S is a multiple of `side`, else linearly.

    It needs one pass over the crop, while `resize` needs several for fractional factors."""
    if crop.shape[-1] > side:
        return downsample(crop, crop.shape[-1] // side)
    return crop if crop.shape[-1] == side else _upsample_bilinear(crop[None], (side, side))[0]


def downsample(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Average blocks of `factor` x `factor` pixels of [C, H, W], float32. Incomplete blocks repeat the border pixels."""
    height, width = image.shape[1:]
    bottom, right = -height % factor, -width % factor
    if bottom or right:
        image = F.pad(image[None], (0, right, 0, bottom), mode="replicate")[0]
    return F.avg_pool2d(image[None], factor)[0]


def reduce_square(images: torch.Tensor, side: int) -> torch.Tensor:
    """Reduce [C, S, S], float32, to [C, side, side] by area, by any factor."""
    length = images.shape[-1]
    if length == side:
        return images
    if length % side == 0:
        return downsample(images, length // side)
    return area_resize(images[..., None], (side, side))[..., 0]


def area_resize(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Reduce [B, H, W, C] of any dtype to `size` (width, height) in float32.

    Each output pixel is the mean of the input pixels that it covers, weighted by the covered part."""
    count, height, width, channels = batch.shape
    down, across = _area_weights(height, size[1], batch.device), _area_weights(width, size[0], batch.device)
    at_once = max(1, MAX_BAND_VALUES // (count * width * channels))
    bands = zip(*(torch.split(one, at_once, 1) for one in down))
    return torch.cat([_weighted_sum(_weighted_sum(batch, 1, *band), 2, *across) for band in bands], 1)


def _weighted_sum(batch: torch.Tensor, dim: int, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum the values at `indices` [K, n] along one dimension, with `weights` [K, n]."""
    total: torch.Tensor | None = None
    for index, weight in zip(indices, weights):
        values = batch.index_select(dim, index).to(torch.float32)
        weight = weight.view([-1 if n == dim else 1 for n in range(4)])
        total = values * weight if total is None else total.addcmul_(values, weight)
    assert total is not None  # a cell covers at least one pixel
    return total


@lru_cache(maxsize=64)  # callers must not modify the result
def _area_weights(source: int, target: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """[K, target] each: the indices of the source pixels that a cell covers, and their weights."""
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
    """Resize [B, C, H, W] to `size` (width, height)."""
    return F.interpolate(planes, size=size[::-1], mode="bilinear", align_corners=False)

"""`faces.warp` in torch, for any device, with the same area reduction, sampling and borders."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..faces.warp import ROUNDING
from .torch_resize import downsample

MAX_GRID_POINTS = 1 << 22  # points sampled at once: their coordinates and values use about 80 MB


def warp(
    image: torch.Tensor,
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    *,
    cubic: bool = True,
    replicate: bool = True,
) -> torch.Tensor:
    """Sample `image` [C, H, W], float32, on a grid of `size` (width, height) pixels -> [C, height, width].

    `matrix` and borders are the same as for `faces.warp.warp`. OpenCV 4 rounds positions to 1/32 px; OpenCV 5 and this
    function do not."""
    factor = 1 / math.hypot(matrix[0, 0], matrix[1, 0])
    block = max(1, int(factor + ROUNDING))
    if block > 1:
        image = downsample(image, block)
        matrix = matrix @ np.array([[block, 0, (block - 1) / 2], [0, block, (block - 1) / 2], [0, 0, 1]], np.float64)
    oversampling = 1 if factor <= block + ROUNDING else 2
    width, height = size
    inverse = np.linalg.inv(np.vstack((matrix, [0.0, 0.0, 1.0])))[:2]
    rows = max(1, MAX_GRID_POINTS // (width * oversampling**2))
    bands = [
        _warp_band(image, inverse, width, range(top, min(top + rows, height)), oversampling, cubic, replicate)
        for top in range(0, height, rows)
    ]
    return bands[0] if len(bands) == 1 else torch.cat(bands, 1)


def _warp_band(
    image: torch.Tensor,
    inverse: NDArray[np.float64],
    width: int,
    rows: range,
    oversampling: int,
    cubic: bool,
    replicate: bool,
) -> torch.Tensor:
    """[C, rows, width]: the given rows of the grid, averaged from `oversampling` samples per pixel in both directions."""
    step, first = 1 / oversampling, (1 / oversampling - 1) / 2  # spacing and first offset of the samples within a pixel
    u = torch.arange(width * oversampling, dtype=torch.float32, device=image.device)
    v = torch.arange(len(rows) * oversampling, dtype=torch.float32, device=image.device)
    axes = []
    for (a, b, c), side in zip(inverse.tolist(), (image.shape[2], image.shape[1])):
        at_first = a * first + b * (rows.start + first) + c
        to_side = 2 / side  # grid_sample: -1 and 1 are the outer edges of the outermost pixels
        along = u * (a * step * to_side) + ((at_first + 0.5) * to_side - 1)
        axes.append(along[None, :] + (v * (b * step * to_side))[:, None])
    out = F.grid_sample(
        image[None],
        torch.stack(axes, 2)[None],
        mode="bicubic" if cubic else "bilinear",
        padding_mode="border" if replicate else "zeros",
        align_corners=False,
    )
    return (F.avg_pool2d(out, oversampling) if oversampling > 1 else out)[0]

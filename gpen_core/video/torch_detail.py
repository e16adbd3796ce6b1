"""`detail` in torch, for any device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..pipeline.torch_image import luminance
from ..pipeline.torch_resize import reduce_square
from .detail import BANDS, DOUBT, GRID, MIN_SHARE, MIN_WEIGHT, NEIGHBOR_WEIGHT, TINY_POWER, TINY_WEIGHT, WINDOW
from .torch_gaussian import gaussian_blur


@dataclass(frozen=True, eq=False)
class TorchWarpedMean:
    """A `detail.WarpedMean` on a device."""

    values: torch.Tensor
    """[C, S, S], with 3 channels or 1."""
    weight: torch.Tensor
    """[S, S]."""


def merge(current: torch.Tensor, before: TorchWarpedMean, after: TorchWarpedMean) -> torch.Tensor:
    """Return the weighted mean of the frame [C, S, S] in [0, 1] and its neighbors; see `detail.merge`."""
    weight = before.weight + after.weight
    total = before.values + after.values
    out = (current + total) / (1 + weight)
    if len(current) == 1:
        return out
    own = luminance(current)
    neighbors, earlier, later = (
        (luminance(values) + TINY_WEIGHT * own) / (some + TINY_WEIGHT)
        for values, some in ((total, weight), (before.values, before.weight), (after.values, after.weight))
    )
    compared = (torch.minimum(before.weight, after.weight) > MIN_WEIGHT).to(torch.float32)
    share = weight / (1 + weight)
    images = torch.cat((own, neighbors, earlier, later))  # [4, S, S]
    for sigma in BANDS:
        blurred = gaussian_blur(images, sigma)
        details, images = images - blurred, blurred
        weight_own, weight_common = _band_weights(details, compared, share)
        out = out + details[0] * weight_own + details[1] * weight_common
    return out


def _band_weights(details: torch.Tensor, compared: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what to add of the frame's own detail and of its neighbors', [S, S] each; see `detail`.

    `details` [4, S, S]: luma of the frame, its neighbors, the earlier and the later ones."""
    own, common, earlier, later = details.unbind()
    side = own.shape[-1]
    size = max(1, side // GRID)
    products = (
        torch.stack((torch.ones_like(own), (earlier + later) * own, earlier * later, own * own, common * common)) * compared
    )
    small = reduce_square(products, size)
    area, with_own, among, own_power, common_power = gaussian_blur(small, WINDOW / GRID).unbind()
    with_own = with_own / 2
    doubt = DOUBT * (common_power - among).clamp(min=0) + TINY_POWER
    kept = ((among + doubt) / (with_own + doubt)).clamp(MIN_SHARE, 1)
    signal = with_own.clamp(min=0) / kept
    own_noise = (own_power - signal).clamp(min=0) + TINY_POWER
    common_noise = ((common_power - kept * kept * signal).clamp(min=0) + TINY_POWER) / (kept * kept)
    best = NEIGHBOR_WEIGHT * own_noise / (own_noise + common_noise)
    grid = torch.where(area < MIN_WEIGHT, torch.ones_like(kept), torch.stack((best, kept)))
    best, kept = F.interpolate(grid[None], size=(side, side), mode="bilinear", align_corners=False)[0].unbind()
    used = torch.minimum(share, best)
    return share - used, used / kept - share

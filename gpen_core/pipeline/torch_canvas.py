"""`faces.blend.Canvas` in torch: faces are blended on the device, and what they changed comes back at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..faces.align import Alignment, into_region
from ..faces.blend import STEEPNESS, Canvas
from ..images.image import Region
from .torch_image import Part, uploaded
from .torch_warp import warp

FULL = 1 + 1e-6  # weights of interpolation add up to 1 but for rounding; what is 1 around stays exactly 1


class DeviceCanvas:
    """A canvas for as long as faces are pasted on the device. It has them when this is closed; `part` is not changed."""

    def __init__(self, canvas: Canvas, part: Part) -> None:
        """`part` is of the canvas's original and holds every place where something will be pasted. Running out of memory
        raises torch's error, here and in `paste`."""
        rows = part.region.slices
        self._canvas = canvas
        self._part = part
        if canvas.result is canvas.original:  # nothing was pasted
            self._result = part.samples.clone()
            self._mask = torch.zeros(part.samples.shape[:2], device=part.device)
        else:
            self._result = uploaded(canvas.result.pixels[rows], part.device).clone()
            self._mask = uploaded(canvas.mask[rows], part.device).clone()
        self._region_mask = None if canvas.region_mask is None else uploaded(canvas.region_mask[rows], part.device)
        self._regions: list[Region] = []

    def paste(self, crop: torch.Tensor, mask: torch.Tensor | None, alignment: Alignment, strength: float = 1.0) -> None:
        """As `Canvas.paste`: `crop` [3, S, S] RGB in [0, 1], `mask` square in [0, 1] or None."""
        region = alignment.region(*self._canvas.original.size)
        if region.empty:
            return
        size = (region.x1 - region.x0, region.y1 - region.y0)
        here = self._part.slices(region)
        weight = self._weight(mask, alignment, region, size)
        neighbours = self._canvas.beside(alignment, region)
        full: torch.Tensor | float = strength if self._region_mask is None else self._region_mask[here] * strength
        before = self._mask[here].clone()
        share = _share(weight, before, full, alignment, neighbours, region) if neighbours else None
        weight = weight * full
        touched = weight > 0
        restored = warp(crop, into_region(alignment, region, crop.shape[-1]), size).clamp_(0, 1)
        original = self._part.rgb(region)
        if share is not None:
            restored = self._beside(region, original, restored, share, before)
            weight = torch.maximum(weight, before)
        # At a weight of 1 this is exactly the restored value, as in `Canvas.paste`.
        blended = self._part.rounded(restored * weight + original * (1 - weight))
        self._result[here] = torch.where(touched[..., None], blended, self._result[here])
        self._mask[here] = torch.where(touched, weight, before)
        self._regions.append(region)

    def close(self) -> None:
        """Writes what was pasted to the canvas. Nothing may be pasted after it."""
        for region in self._regions:
            here = self._part.slices(region)
            self._canvas.take(region, self._result[here].cpu().numpy(), self._mask[here].cpu().numpy())

    def _weight(
        self, mask: torch.Tensor | None, alignment: Alignment, region: Region, size: tuple[int, int]
    ) -> torch.Tensor:
        """[h, w]: the mask in pixels of the region."""
        if mask is None:
            return torch.ones(size[::-1], device=self._part.device)
        matrix = into_region(alignment, region, mask.shape[-1])
        return warp(mask[None], matrix, size, cubic=False, replicate=False)[0].mul_(FULL).clamp_(0, 1)

    def _beside(
        self, region: Region, original: torch.Tensor, restored: torch.Tensor, share: torch.Tensor, before: torch.Tensor
    ) -> torch.Tensor:
        """The restored colour of two faces together: `share` of it is the new one's. See `Canvas`."""
        there = before > 0
        shown = self._part.rgb(region, self._result)
        others = (shown - original * (1 - before)) / torch.where(there, before, torch.ones_like(before))
        return torch.where(there, restored * share + others.clamp(0, 1) * (1 - share), restored)


def _share(
    weight: torch.Tensor,
    before: torch.Tensor,
    full: torch.Tensor | float,
    alignment: Alignment,
    neighbours: Sequence[Alignment],
    region: Region,
) -> torch.Tensor:
    """[h, w]: as `blend`'s."""
    full = torch.as_tensor(full, dtype=torch.float32, device=weight.device)
    old = torch.where(full > 0, before / full.clamp(min=torch.finfo(torch.float32).tiny), torch.zeros_like(before))
    old = old.clamp(0, 1)
    own = _distance(alignment, region, weight.device)
    others = torch.stack([_distance(one, region, weight.device) for one in neighbours]).amin(0)
    nearer = torch.sigmoid((others - own) * STEEPNESS)
    on_top = weight * (1 - old * (1 - nearer))
    below = old * (1 - weight * nearer)
    total = on_top + below
    return torch.where(weight > 0, on_top / torch.where(weight > 0, total, torch.ones_like(total)), torch.zeros_like(total))


def _distance(alignment: Alignment, region: Region, device: torch.device) -> torch.Tensor:
    """[h, w]: of each pixel of the region from the middle of the face's square, in its sides."""
    middle = (alignment.size - 1) / 2
    x0, y0 = (alignment.inverse @ np.array((middle, middle, 1))).tolist()
    x = torch.arange(region.x1 - region.x0, dtype=torch.float32, device=device) + (region.x0 - x0)
    y = torch.arange(region.y1 - region.y0, dtype=torch.float32, device=device) + (region.y0 - y0)
    squares: torch.Tensor = x[None, :] ** 2 + y[:, None] ** 2
    return squares.sqrt() / alignment.side

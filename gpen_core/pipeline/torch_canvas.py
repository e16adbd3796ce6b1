"""`faces.blend.Canvas` in torch: faces are blended on the device, and changed regions are copied back at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..faces.align import Alignment, crop_to_region_matrix
from ..faces.blend import STEEPNESS, Canvas
from ..images.image import Region
from .torch_image import DeviceImage, to_device
from .torch_warp import warp

WEIGHT_GAIN = 1 + 1e-6  # interpolation weights may sum to slightly less than 1; this keeps a mask of 1 at exactly 1


class TorchCanvas:
    """Pastes faces into a `Canvas` on the device. `close` writes them to the canvas. The `device_image` is not changed."""

    def __init__(self, canvas: Canvas, device_image: DeviceImage) -> None:
        """`device_image` is a part of the canvas's original that includes all regions to paste into.

        If memory runs out, here or in `paste`, torch's error is raised."""
        rows = device_image.region.slices
        self._canvas = canvas
        self._device_image = device_image
        if canvas.result is canvas.original:  # nothing was pasted yet
            self._result = device_image.samples.clone()
            self._mask = torch.zeros(device_image.samples.shape[:2], dtype=torch.float32, device=device_image.device)
            self._strengths = torch.zeros_like(self._mask)
        else:
            self._result = to_device(canvas.result.pixels[rows], device_image.device).clone()
            self._mask = to_device(canvas.mask[rows], device_image.device).clone()
            self._strengths = to_device(canvas.strengths[rows], device_image.device).clone()
        self._region_mask = None if canvas.region_mask is None else to_device(canvas.region_mask[rows], device_image.device)
        self._regions: list[Region] = []

    def paste(self, crop: torch.Tensor, mask: torch.Tensor | None, alignment: Alignment, strength: float = 1.0) -> None:
        """Paste a face like `Canvas.paste`. `crop` is [3, S, S] RGB in [0, 1], `mask` is square in [0, 1] or None."""
        region = alignment.source_region(*self._canvas.original.size)
        if region.empty:
            return
        size = (region.x1 - region.x0, region.y1 - region.y0)
        window = self._device_image.slices(region)
        weight = self._warp_mask(mask, alignment, region, size)
        neighbors = self._canvas.register_overlaps(alignment, region)
        region_mask: torch.Tensor | float = 1.0 if self._region_mask is None else self._region_mask[window]
        old_mask, old_strengths = self._mask[window].clone(), self._strengths[window].clone()
        strengths: torch.Tensor | float = strength
        rescaled_mask = old_mask
        share = None
        if neighbors:
            share = _overlap_share(weight, old_mask, old_strengths * region_mask, alignment, neighbors, region)
            strengths = old_strengths + share * (strength - old_strengths)
            share = _ratio(share * strength, strengths)
            rescaled_mask = old_mask * _ratio(strengths, old_strengths)
        weight = weight * (strengths * region_mask)
        touched = weight > 0
        restored = warp(crop, crop_to_region_matrix(alignment, region, crop.shape[-1]), size).clamp_(0, 1)
        original = self._device_image.rgb(region)
        if share is not None:
            restored = self._mix_overlap(region, original, restored, share, old_mask)
            weight = torch.maximum(weight, rescaled_mask)
        # With a weight of 1, the result is exactly the restored value, as in `Canvas.paste`.
        blended = self._device_image.quantize(restored * weight + original * (1 - weight))
        self._result[window] = torch.where(touched[..., None], blended, self._result[window])
        self._mask[window] = torch.where(touched, weight, old_mask)
        self._strengths[window] = strengths
        self._regions.append(region)

    @property
    def device(self) -> torch.device:
        return self._device_image.device

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions into which faces were pasted. They may overlap."""
        return tuple(self._regions)

    @property
    def is_changed(self) -> torch.Tensor:
        """Whether any pixel has a face: a boolean on the device."""
        return (self._mask > 0).any()

    def difference(self, region: Region) -> torch.Tensor:
        """Return the result of a region minus the original: RGB [3, h, w] in [-1, 1]."""
        return self._device_image.rgb(region, self._result) - self._device_image.rgb(region)

    def close(self) -> None:
        """Write the pasted regions to the canvas. Do not call `paste` afterwards."""
        for region in self._regions:
            window = self._device_image.slices(region)
            layers = (one[window].cpu().numpy() for one in (self._result, self._mask, self._strengths))
            self._canvas.write_region(region, *layers)

    def _warp_mask(
        self, mask: torch.Tensor | None, alignment: Alignment, region: Region, size: tuple[int, int]
    ) -> torch.Tensor:
        """[h, w]: the mask in the pixels of the region."""
        if mask is None:
            return torch.ones(size[::-1], dtype=torch.float32, device=self._device_image.device)
        matrix = crop_to_region_matrix(alignment, region, mask.shape[-1])
        return warp(mask[None], matrix, size, cubic=False, replicate=False)[0].mul_(WEIGHT_GAIN).clamp_(0, 1)

    def _mix_overlap(
        self, region: Region, original: torch.Tensor, restored: torch.Tensor, share: torch.Tensor, old_mask: torch.Tensor
    ) -> torch.Tensor:
        """Mix the restored colors of overlapping faces, with the weight `share` for the new one. See `Canvas`."""
        overlap = old_mask > 0
        shown = self._device_image.rgb(region, self._result)
        others = (shown - original * (1 - old_mask)) / torch.where(overlap, old_mask, torch.ones_like(old_mask))
        return torch.where(overlap, restored * share + others.clamp(0, 1) * (1 - share), restored)


def _overlap_share(
    weight: torch.Tensor,
    old_mask: torch.Tensor,
    max_weight: torch.Tensor,
    alignment: Alignment,
    neighbors: Sequence[Alignment],
    region: Region,
) -> torch.Tensor:
    """[h, w]: the weight of the new face where faces overlap, like `blend._overlap_share`."""
    old = _ratio(old_mask, max_weight).clamp(0, 1)
    own = _center_distance(alignment, region, weight.device)
    others = torch.stack([_center_distance(one, region, weight.device) for one in neighbors]).amin(0)
    nearer = torch.sigmoid((others - own) * STEEPNESS)
    on_top = weight * (1 - old * (1 - nearer))
    below = old * (1 - weight * nearer)
    return torch.where(weight > 0, _ratio(on_top, on_top + below), torch.zeros_like(weight))


def _ratio(values: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return values / whole; 0 where `whole` is 0."""
    return torch.where(whole > 0, values / whole.clamp(min=torch.finfo(torch.float32).tiny), torch.zeros_like(values))


def _center_distance(alignment: Alignment, region: Region, device: torch.device) -> torch.Tensor:
    """[h, w]: the distance of each pixel from the center of the face's square, as a multiple of its side."""
    middle = (alignment.size - 1) / 2
    x0, y0 = (alignment.inverse @ np.array((middle, middle, 1))).tolist()
    x = torch.arange(region.x1 - region.x0, dtype=torch.float32, device=device) + (region.x0 - x0)
    y = torch.arange(region.y1 - region.y0, dtype=torch.float32, device=device) + (region.y0 - y0)
    squared: torch.Tensor = x[None, :] ** 2 + y[:, None] ** 2
    return squared.sqrt() / alignment.side

"""`flow` in torch, for any device. Only the search runs on the CPU, on gray crops of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..pipeline.torch_image import luminance
from ..pipeline.torch_resize import reduce_square
from . import flow
from .flow import (
    BLUR_SIGMA,
    BORDER_FADE,
    EROSION_RADIUS,
    FLOW_ERROR,
    FORWARD_BACKWARD,
    MAX_NOISE,
    MAX_REFINEMENT,
    MIN_CONFIDENCE,
    PHOTOMETRIC,
    PHOTOMETRIC_FLOOR,
    REFINE_FLOOR,
    REFINE_GRID_SIGMA,
    WINDOW_SIGMA,
)
from .torch_gaussian import gaussian_blur, gradient


@dataclass(frozen=True, eq=False)
class TorchFlowInput:
    """A `flow.FlowInput` on a device."""

    color: torch.Tensor
    """[3, G, G], slightly blurred."""
    gray: NDArray[np.uint8]
    """[G, G], on the CPU."""
    luma: torch.Tensor
    """[1, G, G], not rounded."""
    gradient: tuple[torch.Tensor, torch.Tensor]
    """Two [1, G, G]: change of the luma per px to the right and downward."""
    detail: torch.Tensor
    """[G, G]: local gradient of the color."""


@dataclass(frozen=True, eq=False)
class TorchFlowMatch:
    """A `flow.FlowMatch` on a device."""

    flow: torch.Tensor
    """[2, G, G]: x and y."""
    confidence: torch.Tensor
    """[G, G] in [0, 1]."""

    @cached_property
    def mean_confidence(self) -> float:
        return float(self.confidence.mean())


def prepare(crop: torch.Tensor) -> TorchFlowInput:
    """Prepare a crop [3, G, G] in [0, 1]."""
    color = gaussian_blur(crop, BLUR_SIGMA)
    luma = luminance(color)
    x, y = gradient(color)
    gray = (luma[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return TorchFlowInput(color, gray, luma, gradient(luma), _local_rms(x**2 + y**2))


def match(
    one: TorchFlowInput, other: TorchFlowInput, guess: torch.Tensor | None = None
) -> tuple[TorchFlowMatch, TorchFlowMatch]:
    """Return the flow in both directions; see `flow.match`.

    `guess`: the approximate flow [2, 2, G, G] in both directions, which replaces the search."""
    if guess is None:
        found = np.stack([flow.search(one.gray, other.gray), flow.search(other.gray, one.gray)])
        guess = torch.from_numpy(found).to(one.luma.device).permute(0, 3, 1, 2)  # BHWC -> BCHW
    flows = _refine(one, other, guess)
    confidence = _confidence(one, other, flows)
    return TorchFlowMatch(flows[0], confidence[0]), TorchFlowMatch(flows[1], confidence[1])


def warp_by_flow(images: torch.Tensor, flows: torch.Tensor, is_cubic: bool = False) -> torch.Tensor:
    """Warp [B, C, H, W] backward by flows [B, 2, H, W]: each pixel gets the value at the flow's end."""
    height, width = flows.shape[-2:]
    x = torch.arange(width, dtype=torch.float32, device=flows.device)
    y = torch.arange(height, dtype=torch.float32, device=flows.device)
    # grid_sample: -1 and 1 are the outer edges of the outermost pixels
    grid = torch.stack(
        ((flows[:, 0] + (x + 0.5)) * (2 / width) - 1, (flows[:, 1] + (y + 0.5)[:, None]) * (2 / height) - 1), 3
    )
    mode = "bicubic" if is_cubic else "bilinear"
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)


def chain(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the flows [B, 2, G, G] of `first` and then `second`."""
    return first + warp_by_flow(second, first)


def _refine(one: TorchFlowInput, other: TorchFlowInput, flows: torch.Tensor) -> torch.Tensor:
    """Improve the flows [2, 2, G, G] from `one` to `other` and back; see `flow.match`."""
    here, there = torch.stack((one.luma, other.luma)), torch.stack((other.luma, one.luma))
    moved = warp_by_flow(there, flows, is_cubic=True)
    difference = here - moved
    own = (torch.stack(pair) for pair in zip(one.gradient, other.gradient))
    x, y = (0.5 * mine + 0.5 * its for mine, its in zip(own, gradient(moved)))
    products = torch.cat((x * x, x * y, y * y, x * difference, y * difference), 1)  # [2, 5, G, G]
    windows = gaussian_blur(reduce_square(products.flatten(0, 1), flows.shape[-1] // 2), REFINE_GRID_SIGMA)
    xx, xy, yy, xt, yt = windows.view(2, 5, *windows.shape[1:]).unbind(1)
    xx, yy = xx + REFINE_FLOOR, yy + REFINE_FLOOR
    step = torch.stack((yy * xt - xy * yt, xx * yt - xy * xt), 1) / (xx * yy - xy * xy)[:, None]
    step = step.clamp(-MAX_REFINEMENT, MAX_REFINEMENT)
    return flows + F.interpolate(step, size=flows.shape[-2:], mode="bicubic", align_corners=False)


def _confidence(one: TorchFlowInput, other: TorchFlowInput, flows: torch.Tensor) -> torch.Tensor:
    """Return [2, G, G] for the flows [2, 2, G, G] from `one` to `other` and back."""
    round_trip = chain(flows, flows.flip(0))
    returns = _falloff(torch.hypot(round_trip[:, 0], round_trip[:, 1]), *FORWARD_BACKWARD)
    color, there = torch.stack((one.color, other.color)), torch.stack((other.color, one.color))
    difference = _local_rms((color - warp_by_flow(there, flows, is_cubic=True)) ** 2)
    noise = difference.flatten(1).quantile(0.5, dim=1).clamp(max=MAX_NOISE)[:, None, None]
    detail = torch.stack((one.detail, other.detail))
    low, high = (times * noise + px * detail + slack for times, px, slack in zip(PHOTOMETRIC, FLOW_ERROR, PHOTOMETRIC_FLOOR))
    agrees = torch.minimum(returns, _falloff(difference, low, high))[None]
    size, radius = 2 * EROSION_RADIUS + 1, EROSION_RADIUS
    closed = F.pad(-F.max_pool2d(-agrees, size, 1, radius), (radius,) * 4, mode="replicate")
    confidence = F.avg_pool2d(closed, size, 1)[0] * _border_weight(flows)
    return torch.where(confidence > MIN_CONFIDENCE, confidence, torch.zeros_like(confidence))


def _border_weight(flows: torch.Tensor) -> torch.Tensor:
    """Return [B, G, G]: 0 where a flow ends in the other crop's border, 1 where it ends well inside."""
    side = flows.shape[-1]
    steps = torch.arange(side, dtype=torch.float32, device=flows.device) - (side - 1) / 2
    distance = torch.maximum((flows[:, 0] + steps).abs(), (flows[:, 1] + steps[:, None]).abs())  # from the center
    return _falloff(distance / side, 0.5 - BORDER_FADE[1], 0.5 - BORDER_FADE[0])


def _local_rms(squares: torch.Tensor) -> torch.Tensor:
    """Return [..., G, G]: the root mean square of the channels of [..., 3, G, G] around each pixel."""
    return gaussian_blur(squares.mean(-3), WINDOW_SIGMA).clamp(min=0).sqrt()


def _falloff(value: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    """Return 1 up to `low`, 0 from `high` on, and a smooth step between."""
    part = ((high - value) / (high - low)).clamp(0, 1)
    return part * part * (3 - 2 * part)

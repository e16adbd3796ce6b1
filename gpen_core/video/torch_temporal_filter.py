"""`temporal_filter.TrackFilter` in torch, for any device. Crops stay on it; only the flow's search runs on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..pipeline.torch_resize import reduce_square
from .temporal_filter import LAYER_SCALE, FilteredFrame, TrackFilter
from .torch_detail import TorchWarpedMean, merge
from .torch_flow import TorchFlowMatch, chain, match, prepare, warp_by_flow

INT16_OFFSET = 32768  # torch has few operations for uint16


class TorchTrackFilter(TrackFilter):
    """A `TrackFilter` for tensors: guides are [3, G, G], layers [3, S, S] or [S, S], and so are the results."""

    def _prepare(self, guide: Any) -> Any:
        return prepare(guide)

    def _quantize(self, layer: Any) -> Any:
        """[C, S, S] of int16."""
        steps = (layer.clamp(0, 1) * LAYER_SCALE).round() - INT16_OFFSET
        return (steps if layer.ndim == 3 else steps[None]).to(torch.int16)

    def _match(self, one: Any, other: Any, guess: Any) -> Any:
        return match(one, other, guess)

    def _chain(self, first: Sequence[Any], second: Sequence[Any]) -> Any:
        return chain(_flows(first), _flows(second))

    def _filter_layer(self, frame: Any, index: int) -> Any:
        layer = _dequantize(frame.layers[index])
        before, after = (TorchWarpedMean(torch.zeros_like(layer), torch.zeros_like(layer[0])) for _ in range(2))
        window: Sequence[Any] = self._window
        for other in window:
            if other.number in frame.matches:
                weight = self._weight(frame.number - other.number)
                mean = before if other.number < frame.number else after
                _accumulate_warped(mean, other.layers[index], frame.matches[other.number], weight)
        out = merge(layer, before, after).clamp_(0, 1)
        return out if len(out) == 3 else out[0]

    def _measure(self, frame: Any, done: FilteredFrame) -> None:
        size = frame.guide.luma.shape[-1]
        both = torch.stack(
            [reduce_square(one, size) for one in (_dequantize(frame.layers[0]), done.layers[0])]
        )  # [2, 3, G, G]
        last: Any = self._last
        if last and last[0] in frame.matches:
            found = frame.matches[last[0]]
            warped = warp_by_flow(last[1], found.flow.expand(2, -1, -1, -1), is_cubic=True)
            squares = (found.confidence * ((both - warped) ** 2).mean(1)).sum((1, 2))
            weight, *sums = torch.cat((found.confidence.sum()[None], squares)).tolist()
            for metric, value in zip((done.flicker_before, done.flicker_after), sums):
                metric.weight, metric.squares = weight, value
        self._last = (frame.number, both)  # type: ignore[assignment]


def _flows(matches: Sequence[TorchFlowMatch]) -> torch.Tensor:
    return torch.stack([one.flow for one in matches])


def _dequantize(layer: torch.Tensor) -> torch.Tensor:
    return (layer.to(torch.float32) + INT16_OFFSET) / LAYER_SCALE


def _accumulate_warped(mean: TorchWarpedMean, layer: torch.Tensor, found: TorchFlowMatch, weight: float) -> None:
    """Add the warped layer and its weight."""
    size = layer.shape[-1]
    ratio = size / found.confidence.shape[-1]
    both = torch.cat((found.flow * ratio, found.confidence[None] * weight))[None]
    both = F.interpolate(both, size=(size, size), mode="bilinear", align_corners=False)
    warped = warp_by_flow(_dequantize(layer)[None], both[:, :2], is_cubic=True)[0].clamp_(0, 1)
    mean.values.addcmul_(warped, both[0, 2])
    mean.weight.add_(both[0, 2])

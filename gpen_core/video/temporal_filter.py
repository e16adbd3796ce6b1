"""Filters the restored crops of a track over time along the optical flow. It removes flicker and keeps blinks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage, Region
from .detail import GRID, HALO, WarpedMean, merge, repeat_channels
from .flow import CHANNEL_MEAN, FlowInput, FlowMatch, chain, make_grid, match, prepare, sample, warp_by_flow

# This radius reduces the flicker of noise to 0.39, a radius of 2 to 0.47 (benchmarks/flicker.py, shake). For a face that
# turns, talks and blinks, restored by sharpening, lower amounts kept more noise than detail. A radius of 5 gained little and
# needs nearly twice the time.
DEFAULT_AMOUNT = 1.0
RADIUS = 3  # frames to each side
GUIDE_SIZE = 256  # px
MIN_CHAINED = 0.4  # mean confidence of each flow of a chain
LAYER_SCALE = 65535.0  # layers are stored in 16 bits

QuantizedLayer = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class _WindowFrame:
    number: int
    guide: FlowInput
    layers: list[QuantizedLayer]
    matches: dict[int, FlowMatch] = field(default_factory=dict)
    """By another frame's number: the flow from this frame to that one."""


@dataclass
class FlickerMetric:
    """Difference of consecutive crops of a track along the flow, weighted by its confidence.

    It consists of sums, so that segments can be added."""

    weight: float = 0.0
    squares: float = 0.0

    @property
    def rms(self) -> float:
        """Root mean square difference of values in [0, 1]; nan if nothing was compared."""
        return math.sqrt(self.squares / self.weight) if self.weight > 0 else math.nan

    def add(self, other: FlickerMetric) -> None:
        self.weight += other.weight
        self.squares += other.squares

    def compare(self, current: FloatImage, previous: FloatImage, match: FlowMatch) -> None:
        """Add the difference of `current` [G, G, 3] and the frame `previous` before it."""
        squares = cv2.transform((current - warp_by_flow(previous, match.flow, cv2.INTER_CUBIC)) ** 2, CHANNEL_MEAN)
        self.weight += float(match.confidence.sum())
        self.squares += float((match.confidence * squares).sum())


@dataclass(frozen=True, eq=False)
class FilteredFrame:
    """One frame of a track after the filter."""

    number: int
    layers: list[Any]
    """Arrays like those of `add`, or tensors if the layers are on a device."""
    flicker_before: FlickerMetric = field(default_factory=FlickerMetric)
    """Difference of the first layer to the previous frame before the filter; empty for a track's first frame."""
    flicker_after: FlickerMetric = field(default_factory=FlickerMetric)
    """The same after the filter."""


class TrackFilter:
    """Filters the restored crops of one track over time along the optical flow, in the track's coordinates.

    Frame t becomes the weighted mean of the frames at most `radius` away, each warped by the flow between the input crops.
    Its own weight is 1. Another frame's weight is `amount`, times a Gaussian over time, times the flow's confidence. The
    confidence is 0 where the forward and backward flow disagree, or where the input crops differ by more than their noise.
    There, frame t stays as restored (to 1 in 65535). Fine detail that the frames have in common is kept in the luma of
    colored layers (see `detail`). At most 2 `radius` + 1 frames are held, in 16 bits.
    """

    def __init__(self, amount: float, radius: int) -> None:
        """`amount` in [0, 1] and `radius` (frames): 0 turns the filter off."""
        self.amount, self.radius = amount, radius
        self._window: list[_WindowFrame] = []
        self._pending: list[int] = []
        self._passthrough: list[FilteredFrame] = []
        self._last: tuple[int, tuple[FloatImage, FloatImage]] | None = None

    @property
    def is_active(self) -> bool:
        """Whether frames are filtered and their flicker is measured."""
        return self.amount > 0 and self.radius > 0

    def add(self, number: int, guide: Any, layers: Sequence[Any]) -> None:
        """Add the track's next frame. `guide` [G, G, 3]: the downscaled input crop, with the same G for all frames.

        `layers`: the images to filter, [S, S] or [S, S, 3], each with its own size. The first is the restored crop
        [S, S, 3]. All are in [0, 1].
        """
        if not self.is_active:
            self._passthrough.append(FilteredFrame(number, list(layers)))
            return
        if self._window and number <= self._window[-1].number:
            raise ValueError(f"Frame {number} was added after frame {self._window[-1].number}. Add frames in order.")
        frame = _WindowFrame(number, self._prepare(guide), [self._quantize(layer) for layer in layers])
        self._window.append(frame)
        for other in reversed(self._window[:-1]):  # the nearest first, since the flow to others is chained from theirs
            if number - other.number <= self.radius:
                guess = self._guess(number, other.number)
                frame.matches[other.number], other.matches[number] = self._match(frame.guide, other.guide, guess)
        self._pending.append(number)

    def pop_ready(self, last_number: float = math.inf) -> Iterator[FilteredFrame]:
        """Yield the frames that need no later ones, in order. All frames up to `last_number` must have been added."""
        while self._passthrough:
            yield self._passthrough.pop(0)
        while self._pending and self._pending[0] + self.radius <= last_number:
            number = self._pending.pop(0)
            frame = next(frame for frame in self._window if frame.number == number)
            layers = [self._filter_layer(frame, index) for index in range(len(frame.layers))]
            done = FilteredFrame(number, layers)
            self._measure(frame, done)
            oldest = (self._pending[0] if self._pending else number + 1) - self.radius
            self._window = [frame for frame in self._window if frame.number >= oldest]
            yield done

    def _guess(self, number: int, other: int) -> tuple[FloatImage, FloatImage] | None:
        """Return the flow between two frames, chained from those of consecutive frames.

        Return None if one of them is missing or if two of them differ, as before and after a flash."""
        frames = {frame.number: frame for frame in self._window}
        steps = range(other, number)
        if len(steps) < 2 or any(step not in frames for step in steps):
            return None
        if any(frames[step].matches[step + 1].mean_confidence < MIN_CHAINED for step in steps):
            return None
        middle = frames[other + 1]
        first = (frames[number].matches[middle.number], frames[other].matches[middle.number])
        return self._chain(first, (middle.matches[other], middle.matches[number]))

    def _prepare(self, guide: FloatImage) -> FlowInput:
        return prepare(guide)

    def _quantize(self, layer: FloatImage) -> QuantizedLayer:
        return np.asarray(cv2.addWeighted(layer, LAYER_SCALE, layer, 0, 0, dtype=cv2.CV_16U), np.uint16)  # rounds, saturates

    def _match(
        self, one: FlowInput, other: FlowInput, guess: tuple[FloatImage, FloatImage] | None
    ) -> tuple[FlowMatch, FlowMatch]:
        return match(one, other, guess)

    def _chain(self, first: Sequence[FlowMatch], second: Sequence[FlowMatch]) -> tuple[FloatImage, FloatImage]:
        """Return the flows of two matches, each followed by one of the second two."""
        forward, backward = (chain(one.flow, other.flow) for one, other in zip(first, second))
        return forward, backward

    def _weight(self, distance: int) -> float:
        """Return the weight of a neighbor that is so many frames away and matches: a Gaussian, 0.25 at the window's end."""
        return self.amount * float(0.25 ** ((distance / self.radius) ** 2))

    def _filter_layer(self, frame: _WindowFrame, index: int) -> FloatImage:
        layer = frame.layers[index]
        current = np.multiply(layer, 1 / LAYER_SCALE, dtype=np.float32)
        neighbors = [(other, frame.matches[other.number]) for other in self._window if other.number in frame.matches]
        warp = _Warp.for_matches([found for _, found in neighbors], layer)
        if warp is None:
            return current
        before, after = (WarpedMean.zeros(current[warp.padded.slices]) for _ in range(2))
        for other, found in neighbors:
            weight = self._weight(frame.number - other.number)
            warp.accumulate(before if other.number < frame.number else after, other.layers[index], found, weight)
        out = merge(current, before, after, warp.padded)
        return np.clip(out, 0, 1, out=out)

    def _measure(self, frame: _WindowFrame, done: FilteredFrame) -> None:
        """Measure the difference to the previous frame."""
        size = frame.guide.gray.shape
        both = (
            _downscale(frame.layers[0].astype(np.float32) / np.float32(LAYER_SCALE), size),
            _downscale(done.layers[0], size),
        )
        if self._last and self._last[0] in frame.matches:
            for sums, now, before in zip((done.flicker_before, done.flicker_after), both, self._last[1]):
                sums.compare(now, before, frame.matches[self._last[0]])
        self._last = (frame.number, both)


def _downscale(layer: FloatImage, size: tuple[int, ...]) -> FloatImage:
    if layer.shape[:2] == size:
        return layer
    return np.asarray(cv2.resize(layer, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.float32)


class _Warp:
    """Warps one neighbor after the other in the same arrays. New ones would cost more than the arithmetic on them."""

    def __init__(self, layer: QuantizedLayer, guide_region: Region, region: Region, padded: Region) -> None:
        """`guide_region` [px of the guide], `region`: what is computed, of images like `layer`."""
        self.padded = padded
        """The part that `accumulate` adds to: `region`, and `HALO` px more to each side as far as the layer reaches."""
        self._guide_region, self._size = guide_region, (region.x1 - region.x0, region.y1 - region.y0)
        self._inner = region.relative_to(padded).slices
        shape = self._size[::-1]
        self._confidence, self._places = np.empty(shape, np.float32), np.empty((*shape, 2), np.float32)
        self._values = np.empty(layer.shape, np.float32)
        self._warped, self._factor = (np.empty((*shape, *layer.shape[2:]), np.float32) for _ in range(2))
        self._grid = make_grid(region)  # not cached, because it is large

    @classmethod
    def for_matches(cls, matches: Sequence[FlowMatch], layer: QuantizedLayer) -> _Warp | None:
        """Prepare for the part of `layer` that has any confidence, or return None if there is none."""
        if not matches:
            return None
        is_used = np.logical_or.reduce([match.confidence > 0 for match in matches])
        x, y, width, height = cv2.boundingRect(is_used.view(np.uint8))
        if not width:
            return None
        side, size = len(is_used), len(layer)
        guide, whole = Region(0, 0, side, side), Region(0, 0, size, size)
        if size % side or size % GRID:
            return cls(layer, guide, whole, whole)
        guide = Region(x, y, x + width, y + height).grown(1).intersection(guide)  # interpolation reaches that far
        ratio = size // side
        region = Region(guide.x0 * ratio, guide.y0 * ratio, guide.x1 * ratio, guide.y1 * ratio)
        return cls(layer, guide, region, region.aligned(GRID, GRID).grown(HALO).intersection(whole))

    def accumulate(self, mean: WarpedMean, layer: QuantizedLayer, match: FlowMatch, temporal_weight: float) -> None:
        """Add the warped layer and its weight."""
        weight, places, guide = self._confidence, self._places, self._guide_region.slices
        flow = match.flow[guide] * np.float32(len(layer) / len(match.flow))
        cv2.resize(match.confidence[guide], self._size, dst=weight, interpolation=cv2.INTER_LINEAR)
        cv2.resize(flow, self._size, dst=places, interpolation=cv2.INTER_LINEAR)
        places += self._grid
        np.copyto(self._values, layer)  # OpenCV is faster with floats
        sample(self._values, places, cv2.INTER_CUBIC, self._warped)
        np.clip(self._warped, 0, LAYER_SCALE, out=self._warped)
        weight *= temporal_weight
        mean.weight[self._inner] += weight
        weight /= LAYER_SCALE
        factor = weight if layer.ndim == 2 else repeat_channels(weight, self._factor)
        cv2.accumulateProduct(self._warped, factor, mean.values[self._inner])

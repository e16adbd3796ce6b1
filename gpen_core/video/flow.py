"""Optical flow between two crops of a track, with a confidence for each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage, Region

FINEST_SCALE = 1  # of the search; each finer scale costs three times as much
ITERATIONS = 12  # of the search
STRIDE = 4  # px between the search's patches
FLOW_SIGMA = 2.0  # px
REFINE_SIGMA = 3.0  # px: the window of the last step, which finds fractions of a pixel
# The same in px of 2x2 pixels, whose averaging widens the window, too (variance 1/4).
REFINE_GRID_SIGMA = math.sqrt((REFINE_SIGMA**2 - 1 / 4) / 4)
REFINE_FLOOR = 1e-4  # squared gradient of the range per px; flatter places keep the flow of the search
MAX_REFINEMENT = 1.0  # px
BLUR_SIGMA = 1.2  # px, before crops are compared
WINDOW_SIGMA = 2.5  # px over which differences are averaged
EROSION_RADIUS = 4  # px around disagreeing pixels that have no confidence either
# Distance in px between a pixel and its forward and backward flow: full confidence below the first, none above the second.
FORWARD_BACKWARD = (0.5, 1.5)
# The same for the difference of the crops: this many times the noise, plus this many px of flow error times the detail.
PHOTOMETRIC = (1.6, 3.0)
FLOW_ERROR = (0.2, 0.45)
PHOTOMETRIC_FLOOR = (0.008, 0.024)  # added to it, of the range
# Of the crop's side. Networks are wrong at the border of their crop, which masks exclude. The filter must not average pixels
# from there into the inside of another crop.
BORDER_FADE = (0.04, 0.08)
CHANNEL_MEAN = np.full((1, 3), 1 / 3)  # NumPy needs ten times as long for a mean over a short axis
MIN_CONFIDENCE = 1e-3  # less is none
MAX_NOISE = 0.03  # of the range, after the blur; a larger difference is not noise


@dataclass(frozen=True, eq=False)
class FlowInput:
    """An input crop, prepared for comparison."""

    color: FloatImage
    """[G, G, 3], slightly blurred."""
    gray: NDArray[np.uint8]
    """[G, G]."""
    luma: FloatImage
    """[G, G], not rounded."""
    detail: FloatImage
    """[G, G]: local gradient of the color."""


@dataclass(frozen=True, eq=False)
class FlowMatch:
    """The flow from one crop to another."""

    flow: FloatImage
    """[G, G, 2]: the point at (x, y) in the first crop is at (x, y) + flow in the second."""
    confidence: FloatImage
    """[G, G] in [0, 1]: whether both show the same there; 0 where they differ."""

    @cached_property
    def mean_confidence(self) -> float:
        return float(self.confidence.mean())


def prepare(crop: FloatImage) -> FlowInput:
    """Prepare a crop [G, G, 3] in [0, 1]."""
    color = np.asarray(cv2.GaussianBlur(crop.astype(np.float32), (0, 0), BLUR_SIGMA), np.float32)
    luma = np.asarray(cv2.cvtColor(color, cv2.COLOR_RGB2GRAY), np.float32)
    steepness = cv2.Sobel(color, cv2.CV_32F, 1, 0, scale=1 / 8) ** 2 + cv2.Sobel(color, cv2.CV_32F, 0, 1, scale=1 / 8) ** 2
    gray = np.asarray(np.rint(np.clip(luma, 0, 1) * 255), np.uint8)
    return FlowInput(color, gray, luma, _local_rms(np.asarray(steepness, np.float32)))


def match(
    one: FlowInput, other: FlowInput, guess: tuple[FloatImage, FloatImage] | None = None
) -> tuple[FlowMatch, FlowMatch]:
    """Return the flow in both directions. It depends only on the arguments.

    `guess`: the approximate flow [G, G, 2] in both directions, which replaces the search."""
    forward, backward = guess or (search(one.gray, other.gray), search(other.gray, one.gray))
    forward, backward = _refine(one, other, forward), _refine(other, one, backward)
    return FlowMatch(forward, _confidence(one, other, forward, backward)), FlowMatch(
        backward, _confidence(other, one, backward, forward)
    )


def warp_by_flow(image: FloatImage, flow: FloatImage, interpolation: int = cv2.INTER_LINEAR) -> FloatImage:
    """Warp `image` [H, W] or [H, W, C] backward by a flow [H, W, 2]: each pixel gets the value at the flow's end."""
    return sample(image, flow + _pixel_grid(flow.shape[0]), interpolation)


def sample(
    image: FloatImage, places: FloatImage, interpolation: int = cv2.INTER_LINEAR, out: FloatImage | None = None
) -> FloatImage:
    """Return the values of `image` [H, W] or [H, W, C] at `places` [h, w, 2], x and y in px, in `out` if that is given."""
    options: Any = {"dst": out, "borderMode": cv2.BORDER_REPLICATE}
    return np.asarray(cv2.remap(image, places, None, interpolation, **options), image.dtype)  # type: ignore[call-overload]


def chain(first: FloatImage, second: FloatImage) -> FloatImage:
    """Return the flow [G, G, 2] of `first` and then `second`."""
    return np.asarray(first + warp_by_flow(second, first), np.float32)


def search(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> FloatImage:
    """Compute the flow [G, G, 2] from one gray crop [G, G] to another by dense inverse search.

    Kroeger et al., ECCV 2016."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(FINEST_SCALE)
    search.setGradientDescentIterations(ITERATIONS)
    search.setPatchStride(STRIDE)
    found = search.calc(one, other, np.zeros((*one.shape, 2), np.float32))
    return np.asarray(cv2.GaussianBlur(found, (0, 0), FLOW_SIGMA), np.float32)


def _refine(one: FlowInput, other: FlowInput, flow: FloatImage) -> FloatImage:
    """Improve the flow by one step of Lucas and Kanade (IJCAI 1981) at each pixel.

    The search is off by fractions of a pixel, which would blur the finest detail of an average along the flow."""
    there = warp_by_flow(other.luma, flow, cv2.INTER_CUBIC)
    difference = one.luma - there
    x, y = _gradient(np.asarray(cv2.addWeighted(one.luma, 0.5, there, 0.5, 0), np.float32))
    xx, xy, yy, xt, yt = map(_window_mean, (x * x, x * y, y * y, x * difference, y * difference))
    xx += REFINE_FLOOR
    yy += REFINE_FLOOR
    factor = 1 / (xx * yy - xy * xy)
    step = np.asarray(cv2.merge(((yy * xt - xy * yt) * factor, (xx * yt - xy * xt) * factor)), np.float32)
    np.clip(step, -MAX_REFINEMENT, MAX_REFINEMENT, out=step)
    step = np.asarray(cv2.resize(step, flow.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32)
    step += flow
    return step


def _window_mean(product: FloatImage) -> FloatImage:
    """Return the mean in a window around the middle of each 2x2 pixels of [G, G]: [G // 2, G // 2]."""
    small = cv2.resize(product, (product.shape[1] // 2, product.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), REFINE_GRID_SIGMA), np.float32)


def _gradient(image: FloatImage) -> tuple[FloatImage, FloatImage]:
    x, y = (cv2.Sobel(image, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _confidence(one: FlowInput, other: FlowInput, forward: FloatImage, backward: FloatImage) -> FloatImage:
    ends = forward + _pixel_grid(forward.shape[0])
    round_trip = sample(backward, ends)
    round_trip += forward
    returns = _falloff(np.asarray(cv2.magnitude(*cv2.split(round_trip)), np.float32), *FORWARD_BACKWARD)
    difference = np.subtract(one.color, sample(other.color, ends, cv2.INTER_CUBIC))
    difference = _local_rms(np.square(difference, out=difference))
    noise = min(_median(difference), MAX_NOISE)
    low, high = (
        times * noise + px * one.detail + slack for times, px, slack in zip(PHOTOMETRIC, FLOW_ERROR, PHOTOMETRIC_FLOOR)
    )
    agrees = np.minimum(returns, _falloff(difference, low, high))
    size = 2 * EROSION_RADIUS + 1
    closed = cv2.erode(agrees, np.ones((size, size), np.uint8))
    confidence = np.asarray(cv2.blur(closed, (size, size), borderType=cv2.BORDER_REPLICATE), np.float32)
    confidence *= _border_weight(ends)
    return np.asarray(cv2.threshold(confidence, MIN_CONFIDENCE, 0, cv2.THRESH_TOZERO)[1], np.float32)


def _border_weight(ends: FloatImage) -> FloatImage:
    """Return [G, G]: 0 where the flow ends, x and y in px, in the other crop's border, 1 where it ends well inside."""
    side = ends.shape[0]
    x, y = (cv2.absdiff(one, (side - 1) / 2) for one in cv2.split(ends))
    distance = np.asarray(cv2.max(x, y), np.float32)
    return _falloff(distance, side * (0.5 - BORDER_FADE[1]), side * (0.5 - BORDER_FADE[0]))


def _median(values: FloatImage) -> float:
    """Return the upper median. NumPy's own needs ten times as long, because it looks for two values."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])


def _local_rms(squares: FloatImage) -> FloatImage:
    """Return [G, G]: the root mean square of the channels around each pixel."""
    mean = np.asarray(cv2.GaussianBlur(cv2.transform(squares, CHANNEL_MEAN), (0, 0), WINDOW_SIGMA), np.float32)
    np.maximum(mean, 0, out=mean)
    return np.sqrt(mean, out=mean)


def _falloff(value: FloatImage, low: FloatImage | float, high: FloatImage | float) -> FloatImage:
    """Return 1 up to `low`, 0 from `high` on, and a smooth step between."""
    part = np.asarray(np.subtract(high, value), np.float32)
    part /= high - low
    np.clip(part, 0, 1, out=part)
    step = part * np.float32(-2)
    step += 3
    step *= part
    step *= part
    return step


@lru_cache(maxsize=4)  # callers must not modify the result
def _pixel_grid(size: int) -> FloatImage:
    """See `make_grid`; for guides."""
    return make_grid(Region(0, 0, size, size))


def make_grid(region: Region) -> FloatImage:
    """Return x and y of each pixel, [h, w, 2]."""
    x, y = (np.arange(*ends, dtype=np.float32) for ends in ((region.x0, region.x1), (region.y0, region.y1)))
    return np.asarray(cv2.merge((cv2.repeat(x[None], len(y), 1), cv2.repeat(y[:, None], 1, len(x)))), np.float32)

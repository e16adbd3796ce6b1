"""Where each pixel of one crop lies in another of the same track, and how far that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage

FINEST_SCALE = 2  # of the flow: finer ones follow the noise and cost four times as much each
SMOOTHED = 6.0  # px: a face moves smoothly, but where it does not the gate closes
BLURRED = 1.2  # px: before anything is compared
AROUND = 2.5  # px over which differences are averaged
MARGIN = 4  # px around what disagrees that is held to disagree, too
# Forwards and backwards the flow may miss its start by that many pixels: fully trusted below, not at all above.
RETURNS = (0.5, 1.5)
# So many times the noise may the crops differ, and so many pixels may the flow be off where there is detail.
DIFFERS = (1.6, 3.0)
MISSES = (0.2, 0.45)
SLACK = (0.008, 0.024)  # of the range, whatever the noise
# Of the side: networks err at the border of their square, which masks leave out; so would the filter's means where what one
# crop shows inside lay at the border of another.
BORDER = (0.04, 0.08)
MEAN = np.full((1, 3), 1 / 3)  # of the channels; NumPy takes ten times as long over a short axis
LARGEST_NOISE = 0.03  # of the range, once blurred: more than that is something else


@dataclass(frozen=True, eq=False)
class Guide:
    """A crop as it came in, made ready to be compared."""

    colour: FloatImage
    """[G, G, 3], a little blurred."""
    grey: NDArray[np.uint8]
    """[G, G]."""
    detail: FloatImage
    """[G, G]: by how much the colour changes from pixel to pixel, around here."""


@dataclass(frozen=True, eq=False)
class Meeting:
    """How one guide lies in another."""

    flow: FloatImage
    """[G, G, 2]: what the one shows at (x, y), the other shows at (x, y) + flow."""
    gate: FloatImage
    """[G, G] in [0, 1]: how far they show the same there; 0 for certain where they do not."""


def prepare(guide: FloatImage) -> Guide:
    """Of a crop [G, G, 3] in [0, 1]."""
    colour = np.asarray(cv2.GaussianBlur(guide.astype(np.float32), (0, 0), BLURRED), np.float32)
    grey = np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), np.float32)
    steepness = cv2.Sobel(colour, cv2.CV_32F, 1, 0, scale=1 / 8) ** 2 + cv2.Sobel(colour, cv2.CV_32F, 0, 1, scale=1 / 8) ** 2
    return Guide(colour, np.asarray(np.rint(np.clip(grey, 0, 1) * 255), np.uint8), _around(steepness))


def meet(one: Guide, other: Guide) -> tuple[Meeting, Meeting]:
    """The one in the other, and the other in the one. Depends on nothing but the two."""
    there, back = _flow(one, other), _flow(other, one)
    return Meeting(there, _gate(one, other, there, back)), Meeting(back, _gate(other, one, back, there))


def carried(image: FloatImage, flow: FloatImage, interpolation: int = cv2.INTER_LINEAR) -> FloatImage:
    """`image` [H, W] or [H, W, C] seen along a flow [H, W, 2]: at each pixel what lies at its end."""
    x, y = _grid(flow.shape[0])
    return np.asarray(
        cv2.remap(image, flow[..., 0] + x, flow[..., 1] + y, interpolation, borderMode=cv2.BORDER_REPLICATE), image.dtype
    )


def _flow(one: Guide, other: Guide) -> FloatImage:
    """Dense inverse search: Kroeger et al., ECCV 2016."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(FINEST_SCALE)
    found = search.calc(one.grey, other.grey, np.zeros((*one.grey.shape, 2), np.float32))
    return np.asarray(cv2.GaussianBlur(found, (0, 0), SMOOTHED), np.float32)


def _gate(one: Guide, other: Guide, there: FloatImage, back: FloatImage) -> FloatImage:
    missed = there + carried(back, there)
    returns = _falling(np.hypot(missed[..., 0], missed[..., 1]), *RETURNS)
    difference = _around((one.colour - carried(other.colour, there, cv2.INTER_CUBIC)) ** 2)
    noise = min(float(np.median(difference)), LARGEST_NOISE)
    low, high = (times * noise + px * one.detail + slack for times, px, slack in zip(DIFFERS, MISSES, SLACK))
    agrees = np.minimum(returns, _falling(difference, low, high))
    size = 2 * MARGIN + 1
    closed = cv2.erode(agrees, np.ones((size, size), np.uint8))
    gate = cv2.blur(closed, (size, size), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(gate * _from_within(there), np.float32)


def _from_within(there: FloatImage) -> FloatImage:
    """[G, G]: 0 where the flow ends in the other's border, 1 where it ends well inside."""
    side = there.shape[0]
    middle = (side - 1) / 2
    off = np.maximum(*(np.abs(there[..., n] + _grid(side)[n] - middle) for n in (0, 1)))  # from the middle
    return _falling(off / side, 0.5 - BORDER[1], 0.5 - BORDER[0])


def _around(squares: FloatImage) -> FloatImage:
    """[G, G]: the root of the mean square of the channels, around each pixel."""
    mean = cv2.GaussianBlur(cv2.transform(squares, MEAN), (0, 0), AROUND)
    return np.asarray(np.sqrt(np.maximum(mean, 0)), np.float32)


def _falling(value: FloatImage, low: FloatImage | float, high: FloatImage | float) -> FloatImage:
    """1 up to `low`, 0 from `high` on, smooth between."""
    part = np.clip((high - value) / (high - low), 0, 1)
    return np.asarray(part * part * (3 - 2 * part), np.float32)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[FloatImage, FloatImage]:
    """x [1, G] and y [G, 1]."""
    steps = np.arange(size, dtype=np.float32)
    return steps[None, :], steps[:, None]

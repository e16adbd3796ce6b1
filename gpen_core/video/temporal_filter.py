"""Restored crops of one track, filtered over time along what moved: flicker goes, a blink stays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionsError
from ..images.image import FloatImage
from .flow import MEAN, Guide, Meeting, carried, meet, prepare

# Flicker of noise falls to 0.39 of what it was, with a radius of 2 to 0.47 (benchmarks/flicker.py, shake). On a face that
# turns, talks and blinks, restored by sharpening, lower amounts kept more noise than they spared of the clean face, and a
# radius of 5 gained little and takes nearly twice as long.
AMOUNT = 1.0
RADIUS = 3  # frames to each side
GUIDE = 256  # px: a guide's side
STEPS = 65535.0  # layers are kept in 16 bits
BAND = 128  # rows filtered at once: they stay in the processor's cache

Kept = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class _Frame:
    number: int
    guide: Guide
    layers: list[Kept]
    met: dict[int, Meeting] = field(default_factory=dict)
    """By another frame's number: how this one lies in that one."""


@dataclass
class Steadiness:
    """How far following crops of a track differ along the flow, where it agrees; sums, so that segments can be added."""

    weight: float = 0.0
    squares: float = 0.0

    @property
    def value(self) -> float:
        """Root mean square difference of values in [0, 1]; nan where nothing was compared."""
        return math.sqrt(self.squares / self.weight) if self.weight > 0 else math.nan

    def add(self, other: Steadiness) -> None:
        self.weight += other.weight
        self.squares += other.squares

    def compare(self, now: FloatImage, before: FloatImage, meeting: Meeting) -> None:
        """`now` [G, G, 3] and the frame `before` it, which it meets."""
        squares = cv2.transform((now - carried(before, meeting.flow, cv2.INTER_CUBIC)) ** 2, MEAN)
        self.weight += float(meeting.gate.sum())
        self.squares += float((meeting.gate * squares).sum())


@dataclass(frozen=True, eq=False)
class Steadied:
    """One frame of a track after the filter."""

    number: int
    layers: list[FloatImage]
    before: Steadiness = field(default_factory=Steadiness)
    """How far the first layer differs from the frame before it, as it came; nothing for a track's first frame."""
    after: Steadiness = field(default_factory=Steadiness)
    """The same of what is given."""


class TrackFilter:
    """The restored crops of one track filtered over time along optical flow, in the track's coordinates.

    Frame t becomes the weighted mean of the frames at most `radius` from it, each resampled to where the flow between
    the crops as they came in says that it lies. Its own weight is 1 and another's `amount`, times a Gaussian over time,
    times the gate: 0 where the flow does not return to where it began, or the crops as they came in differ by more than
    their noise. There, frame t stays as restored (to 1 in 65535). A result depends on the frames at most `radius` away.
    At most 2 `radius` + 1 frames are held, in 16 bits.
    """

    def __init__(self, amount: float = AMOUNT, radius: int = RADIUS) -> None:
        """`amount` in [0, 1]: 0 hands all through as it is. Raises `OptionsError`."""
        if not 0 <= amount <= 1:
            raise OptionsError(f"temporal_smoothing is {amount}; expected a number from 0 (each frame by itself) to 1.")
        if radius < 0:
            raise OptionsError(f"The window reaches 0 or more frames to each side, not {radius}.")
        self.amount, self.radius = amount, radius
        self._window: list[_Frame] = []
        self._waiting: list[int] = []
        self._through: list[Steadied] = []
        self._last: tuple[int, tuple[FloatImage, FloatImage]] | None = None

    @property
    def is_active(self) -> bool:
        """Whether anything is filtered, and so measured."""
        return self.amount > 0 and self.radius > 0

    def add(self, number: int, guide: FloatImage, layers: Sequence[FloatImage]) -> None:
        """The track's next frame. `guide` [G, G, 3]: the crop as it came in, reduced by area; G is the same for all.

        `layers`, square [S, S] or [S, S, C], each of its own size: what is filtered; the first is the restored crop
        [S, S, 3]. All are in [0, 1].
        """
        if not self.is_active:
            self._through.append(Steadied(number, list(layers)))
            return
        if self._window and number <= self._window[-1].number:
            raise ValueError(f"Frame {number} came after frame {self._window[-1].number}: a track goes forwards.")
        frame = _Frame(number, prepare(guide), [_keep(layer) for layer in layers])
        for other in self._window:
            if number - other.number <= self.radius:
                frame.met[other.number], other.met[number] = meet(frame.guide, other.guide)
        self._window.append(frame)
        self._waiting.append(number)

    def ready(self, upto: float = math.inf) -> Iterator[Steadied]:
        """The frames that need no further ones, in order: all of the track's up to number `upto` have been added."""
        while self._through:
            yield self._through.pop(0)
        while self._waiting and self._waiting[0] + self.radius <= upto:
            number = self._waiting.pop(0)
            frame = next(frame for frame in self._window if frame.number == number)
            layers = [self._filtered(frame, index) for index in range(len(frame.layers))]
            done = Steadied(number, layers)
            self._measure(frame, done)
            oldest = (self._waiting[0] if self._waiting else number + 1) - self.radius
            self._window = [frame for frame in self._window if frame.number >= oldest]
            yield done

    def _filtered(self, frame: _Frame, index: int) -> FloatImage:
        layer = frame.layers[index]
        total = np.ones(layer.shape[:2], np.float32)
        out = layer.astype(np.float32)
        for other in self._window:
            if other.number in frame.met:
                near = self.amount * _kernel(frame.number - other.number, self.radius)
                _add_along(out, total, other.layers[index], frame.met[other.number], near)
        out /= total if out.ndim == 2 else total[..., None]
        out /= STEPS
        return np.clip(out, 0, 1, out=out)

    def _measure(self, frame: _Frame, done: Steadied) -> None:
        """Compares the frame with the one before it."""
        size = frame.guide.grey.shape
        both = _reduced(frame.layers[0].astype(np.float32) / np.float32(STEPS), size), _reduced(done.layers[0], size)
        if self._last and self._last[0] in frame.met:
            for sums, now, before in zip((done.before, done.after), both, self._last[1]):
                sums.compare(now, before, frame.met[self._last[0]])
        self._last = (frame.number, both)


def _kernel(distance: int, radius: int) -> float:
    """A Gaussian that is a quarter at the window's end."""
    return float(0.25 ** ((distance / radius) ** 2))


def _keep(layer: FloatImage) -> Kept:
    return np.asarray(np.rint(np.clip(layer, 0, 1) * np.float32(STEPS)), np.uint16)


def _reduced(layer: FloatImage, size: tuple[int, ...]) -> FloatImage:
    if layer.shape[:2] == size:
        return layer
    return np.asarray(cv2.resize(layer, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.float32)


def _add_along(out: FloatImage, total: FloatImage, layer: Kept, meeting: Meeting, near: float) -> None:
    """Adds what the layer shows along the flow to `out`, in the layer's steps, and its weight to `total`."""
    size = layer.shape[0]
    ratio = size / meeting.gate.shape[0]
    gate = near * cv2.resize(meeting.gate, (size, size), interpolation=cv2.INTER_LINEAR)
    flow = ratio * cv2.resize(meeting.flow, (size, size), interpolation=cv2.INTER_LINEAR)
    x, y = np.arange(size, dtype=np.float32)[None, :], np.arange(size, dtype=np.float32)[:, None]
    for top in range(0, size, BAND):
        rows = slice(top, top + BAND)
        weight = gate[rows]
        if not weight.any():
            continue
        there = cv2.remap(
            layer, flow[rows, :, 0] + x, flow[rows, :, 1] + y[rows], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        out[rows] += there * (weight if layer.ndim == 2 else weight[..., None])
        total[rows] += weight

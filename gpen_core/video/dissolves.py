"""Detects dissolves: frames that are a mixture of the shots before and after them.

The frames of a short span are compared with its first and its last frame, at 48 px. In a dissolve they are mixtures of these
two, and the share of the last one grows steadily from 0 to 1. A frame after a pan or a zoom is no mixture. A change of light
is one, but the new picture is the old one in other brightness."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage
from .face_motion import normalized_correlation

SPANS = (5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40)  # frames at up to 30 per second
MAX_RATE = 30.0  # per second; of faster videos, frames are left out
MIN_SHOT_FRAMES = 18  # between the middles of two dissolves
SMALL_SIZE = 48  # px; longer side of the frames that are compared as mixtures
MIN_CONTRAST = 20.0  # levels of 255; root mean square difference of the two shots
MAX_CORRELATION = 0.8  # of the two shots
MIN_MIXED = 0.15  # of either shot in a mixed frame
MIN_MIXED_FRAMES = 3
MAX_RESIDUAL = 0.4  # of a mixed frame, relative to the difference of the two shots; people move
PLATEAU = 1 / 8  # of the span, at its beginning and at its end, is not mixed
MAX_PLATEAU_SHARE = 0.25  # of the other shot in a frame that is not mixed
MAX_STEP, MAX_STEP_BACK = 0.25, 0.1  # of the share from frame to frame
MAX_NONLINEARITY = 0.1  # of the share in a mixed frame
MIN_NEW_CONTENT = 0.08  # of the energy of the change that is no change of brightness and contrast


class _Frame(NamedTuple):
    number: int
    thumbnail: NDArray[np.uint8]
    small: NDArray[np.float64]
    """[n], the frame at `SMALL_SIZE`."""


class DissolveDetector:
    """Detects dissolves of 4 to 24 frames. It keeps gray thumbnails of the last 1.4 seconds."""

    def __init__(self, rate: float, is_same_shot: Callable[[FloatImage, FloatImage], bool]) -> None:
        """`rate`: frames per second. `is_same_shot` compares two thumbnails."""
        self._step = max(1, round(rate / MAX_RATE))
        self._is_same_shot = is_same_shot
        self._frames: list[_Frame] = []
        self._last_middle: int | None = None

    def restart(self) -> None:
        """Forget all frames: a cut comes next."""
        self._frames = []

    def add(self, number: int, thumbnail: FloatImage) -> int | None:
        """Add the next frame. Return the number of the frame in the middle of a dissolve that has ended, or None.

        `thumbnail` [h, w] in [0, 255]; another size begins anew."""
        if number % self._step:
            return None
        if self._frames and self._frames[-1].thumbnail.shape != thumbnail.shape:
            self.restart()
        scale = SMALL_SIZE / max(thumbnail.shape)
        size = [max(1, round(side * scale)) for side in thumbnail.shape[::-1]]
        small = cv2.resize(thumbnail, size, interpolation=cv2.INTER_AREA).ravel().astype(np.float64)
        self._frames = [*self._frames, _Frame(number, np.rint(thumbnail).astype(np.uint8), small)][-SPANS[-1] - 1 :]
        for span in SPANS:
            if len(self._frames) > span and (middle := self._find(self._frames[-span - 1 :])) is not None:
                self.restart()
                self._last_middle = middle
                return middle
        return None

    def _find(self, frames: list[_Frame]) -> int | None:
        """Return the middle of a dissolve between the first and the last of the frames, or None."""
        shares = _dissolve_shares([frame.small for frame in frames])
        if shares is None:
            return None
        middle = frames[int(np.argmax(shares >= 0.5))].number
        if self._last_middle is not None and middle - self._last_middle < MIN_SHOT_FRAMES * self._step:
            return None
        one, two = (frames[n].thumbnail.astype(np.float32) for n in (0, -1))
        return None if self._is_same_shot(one, two) else middle


def _dissolve_shares(frames: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """Return the share of the last frame in each frame, or None if they are no dissolve from the first to the last."""
    first, difference = frames[0], frames[-1] - frames[0]
    energy = float(difference @ difference)
    if energy < MIN_CONTRAST**2 * first.size:
        return None
    images = np.stack(frames)
    shares: NDArray[np.float64] = (images - first) @ difference / energy
    mixed = np.flatnonzero((shares > MIN_MIXED) & (shares < 1 - MIN_MIXED))
    if not _is_steady(shares, mixed):
        return None
    residuals = images[mixed] - first - shares[mixed, None] * difference
    if (residuals**2).sum(1).max() > MAX_RESIDUAL**2 * energy or normalized_correlation(first, frames[-1]) > MAX_CORRELATION:
        return None
    return shares if _new_content(images[mixed]) >= MIN_NEW_CONTENT else None


def _is_steady(shares: NDArray[np.float64], mixed: NDArray[np.intp]) -> bool:
    """Whether the shares grow in a straight line, between two plateaus. `mixed`: the frames between these."""
    if len(mixed) < MIN_MIXED_FRAMES or mixed[-1] - mixed[0] != len(mixed) - 1:
        return False
    steps, plateau = np.diff(shares), max(1, round(PLATEAU * (len(shares) - 1))) + 1
    off_plateau = max(np.abs(shares[:plateau]).max(), np.abs(shares[-plateau:] - 1).max())
    line = np.polyval(np.polyfit(mixed, shares[mixed], 1), mixed)
    return bool(
        off_plateau <= MAX_PLATEAU_SHARE
        and steps.min() >= -MAX_STEP_BACK
        and steps.max() <= MAX_STEP
        and np.abs(line - shares[mixed]).max() <= MAX_NONLINEARITY
    )


def _new_content(images: NDArray[np.float64]) -> float:
    """Return the share of the change, by energy, that is no change of brightness and contrast. `images` [frames, n]."""
    change, middle = images[-1] - images[0], images[len(images) // 2]
    line = np.stack([middle, np.ones_like(middle)], 1)
    unexplained = change - line @ np.linalg.lstsq(line, change, rcond=None)[0]
    return float((unexplained @ unexplained) / max(float(change @ change), 1e-9))

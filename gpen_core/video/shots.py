"""Where one shot of a film ends and the next begins: hard cuts, found as the frames come.

Own code, and not scenedetect: that reads files by itself, judges by how much the colours change, which a flash or a fast pan
makes them do, and is not there inside ComfyUI. What tells a cut here is that nothing of the last frame is found again in
this one, wherever it may have moved to and however bright it has become.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage, Picture

SIDE = 192  # px: the longer one of the frames that are compared
BLOCK = 12  # px
SAME = 0.65  # correlation of what two frames have in common, one of them moved: beyond it nothing need be looked for
LEAST = 0.3  # of the frame they must have in common
COARSE = 6.0  # px of half the size: what is coarser, light and shade, does not count in that
TEXTURE = 3.0  # levels of 255: standard deviation within a block that has something to be known again by
FEWEST = 0.04  # of the blocks: with fewer that have texture, nothing can be said
FEW = 0.15  # of the blocks: a frame with fewer may be a flash
FOUND = 0.7  # correlation of a block with what it is thought to have become
WHITE = 250  # levels of 255
GLARING = 0.2  # of the frame: with so much more white than the one before, it may be a flash
LIFTED = 60.0  # levels: or with its darkest twentieth so much brighter
FLASH = 2  # frames: the longest
BACK = 1.5  # px: the flow there and back ends that near to where it began
SMALLEST_SHARE = 0.33  # of the blocks with texture are found again within one shot


class CutFinder:
    """Is asked about every frame in order. It keeps the last two frames that show anything, 192 px wide, in grey."""

    def __init__(self) -> None:
        self._kept: list[FloatImage] = []
        self._glared = 0

    def is_cut(self, picture: Picture) -> bool:
        """Whether this frame begins another shot than the last one's. The first frame begins none; neither does one that is
        nearly of one colour or a narrow strip: what comes after it is compared with what came before it. So it is with a
        flash of one frame or two, which makes a cut into glaring light come as much later. Dissolves are not found, nor is a
        cut to another moment of the same view."""
        now = small(picture)
        if min(now.shape) < BLOCK or _textured(now).mean() < FEWEST:
            return False
        goes_on = not self._kept or any(_goes_on(before, now) for before in reversed(self._kept))
        if not goes_on and self._glared < FLASH and _glares(now, self._kept[-1]):
            self._glared += 1
            return False
        self._glared = 0
        self._kept = [*self._kept[-1:], now] if goes_on else [now]
        return not goes_on


def _glares(now: FloatImage, before: FloatImage) -> bool:
    """Whether light may have flooded the picture."""
    whiter = float((now >= WHITE).mean() - (before >= WHITE).mean())
    return whiter > GLARING or float(np.percentile(now, 5) - np.percentile(before, 5)) > LIFTED


def small(picture: Picture) -> FloatImage:
    """[h, w] grey in [0, 255], the longer side 192 px."""
    return np.asarray(cv2.cvtColor(picture.bgr_255(SIDE), cv2.COLOR_BGR2GRAY), np.float32)


def _goes_on(before: FloatImage, now: FloatImage) -> bool:
    return before.shape == now.shape and likeness(before, now) >= SMALLEST_SHARE


def likeness(before: FloatImage, now: FloatImage) -> float:
    """0 to 1: of the blocks with texture of a `small` frame, those that are found again in another; 1 where most of the
    picture is the same, at once, however far it has moved."""
    one, two = _even(before), _even(now)
    x, y, correlation = _shift(one, two)
    if correlation >= SAME:
        return 1.0
    there = _textured(before) & _textured(_shifted(now, x, y))
    if there.mean() < FEWEST and _textured(now).mean() < FEW:
        return 1.0  # white but for a corner: what comes next tells
    moved = _found(one, _shifted(two, x, y)), there
    still = _found(one, two), _textured(before)
    return max(float(found[where].mean()) if where.mean() >= FEWEST else 0.0 for found, where in (moved, still))


def _shift(one: FloatImage, two: FloatImage) -> tuple[float, float, float]:
    """By how much most of the first frame has moved in the second, and how much alike they are then: the correlation of
    what they have in common, for all shifts at once (Padfield, IEEE Trans. Image Processing 21(5), 2012)."""
    a, b = _fine(one), _fine(two)
    height, width = a.shape
    size = (2 * height, 2 * width)
    whole = np.ones_like(a)
    a1, b1, a2, b2, m = (np.fft.rfft2(v, size) for v in (a, b, a * a, b * b, whole))

    def over(first: Any, second: Any) -> NDArray[np.float64]:
        return np.asarray(np.fft.irfft2(np.conj(first) * second, size))

    count = np.maximum(np.rint(over(m, m)), 1)
    sum_a, sum_b = over(a1, m), over(m, b1)
    variances = [np.maximum(v, 1e-6) for v in (over(a2, m) - sum_a**2 / count, over(m, b2) - sum_b**2 / count)]
    correlation = (over(a1, b1) - sum_a * sum_b / count) / np.sqrt(variances[0] * variances[1])
    correlation[count < LEAST * a.size] = -1
    y, x = (int(v) for v in np.unravel_index(np.argmax(correlation), size))
    best = float(correlation[y, x])
    return 2.0 * (x - size[1] * (x > width)), 2.0 * (y - size[0] * (y > height)), best


def _fine(image: FloatImage) -> FloatImage:
    """Half the size, without light and shade."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(half - cv2.GaussianBlur(half, (0, 0), COARSE), np.float32)


def _found(one: FloatImage, two: FloatImage) -> NDArray[np.bool_]:
    """[rows, columns]: the blocks of the first frame that the flow finds again."""
    flow: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]
    bytes_one, bytes_two = (np.rint(image).astype(np.uint8) for image in (one, two))
    there, back = flow.calc(bytes_one, bytes_two, None), flow.calc(bytes_two, bytes_one, None)
    y, x = np.mgrid[: one.shape[0], : one.shape[1]].astype(np.float32)
    to_x, to_y = x + there[..., 0], y + there[..., 1]
    outside: Any = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (1e3, 1e3)}
    returned = cv2.remap(back, to_x, to_y, cv2.INTER_LINEAR, **outside)
    agrees = (np.hypot(*np.moveaxis(there + returned, 2, 0)) < BACK).astype(np.float32)
    moved = cv2.remap(two, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray((_blocks(agrees).mean(2) > 0.5) & (_alike(_blocks(one), _blocks(moved)) > FOUND))


def _even(image: FloatImage) -> FloatImage:
    """In [0, 255] with one mean and contrast, whatever the light."""
    deviation = max(float(image.std()), 1.0)
    return np.asarray(np.clip((image - image.mean()) * (48 / deviation) + 128, 0, 255), np.float32)


def _shifted(image: FloatImage, x: float, y: float) -> FloatImage:
    """What lies at (x, y) comes to (0, 0)."""
    matrix = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE), np.float32)


def _blocks(image: NDArray[Any]) -> NDArray[Any]:
    """[rows, columns, pixels]: whole blocks; what is left at the right and below is dropped."""
    rows, columns = (max(1, side // BLOCK) for side in image.shape)
    height, width = (min(BLOCK, side) for side in image.shape)
    blocks = image[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return blocks.transpose(0, 2, 1, 3).reshape(rows, columns, height * width)


def _textured(image: FloatImage) -> NDArray[np.bool_]:
    return np.asarray(_blocks(image).std(axis=2) >= TEXTURE)


def _alike(one: NDArray[Any], two: NDArray[Any]) -> NDArray[Any]:
    """[rows, columns]: correlation of each block with its counterpart; 0 for flat ones."""
    a, b = (v - v.mean(axis=2, keepdims=True) for v in (one, two))
    norm = np.sqrt((a**2).sum(2) * (b**2).sum(2))
    return np.asarray(np.divide((a * b).sum(2), norm, out=np.zeros_like(norm), where=norm > 0))

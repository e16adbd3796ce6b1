"""Where one shot of a video ends and the next begins: hard cuts, found as the frames come.

Own code, and not scenedetect: that reads files by itself, judges by how much the colors change, which a flash or a fast pan
makes them do, and is not there inside ComfyUI. What tells a cut here is that nothing of the last frame is found again in
this one, wherever it may have moved to and however bright it has become.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage, ImageData

THUMBNAIL_SIZE = 192  # px: the longer one of the frames that are compared
BLOCK_SIZE = 12  # px
MIN_GLOBAL_CORRELATION = (
    0.65  # correlation of what two frames have in common, one of them moved: beyond it nothing need be looked for
)
MIN_OVERLAP = 0.3  # of the frame they must have in common
HIGHPASS_SIGMA = 6.0  # px of half the size: what is coarser, light and shade, does not count in that
MIN_BLOCK_STD = 3.0  # levels of 255: standard deviation within a block that has something to be known again by
MIN_TEXTURED = 0.04  # of the blocks: with fewer that have texture, nothing can be said
MAX_FLASH_TEXTURED = 0.15  # of the blocks: a frame with fewer may be a flash
MIN_BLOCK_CORRELATION = 0.7  # correlation of a block with what it is thought to have become
WHITE_LEVEL = 250  # levels of 255
MIN_FLASH_WHITE = 0.2  # of the frame: with so much more white than the one before, it may be a flash
MIN_FLASH_LIFT = 60.0  # levels: or with its darkest twentieth so much brighter
MAX_FLASH_FRAMES = 2  # frames: the longest
MAX_FORWARD_BACKWARD = 1.5  # px: the flow there and back ends that near to where it began
MIN_SIMILARITY = 0.33  # of the blocks with texture are found again within one shot


class CutDetector:
    """Is asked about every frame in order. It keeps the last two frames that show anything, 192 px wide, in gray."""

    def __init__(self) -> None:
        self._references: list[FloatImage] = []
        self._flash_frames = 0

    def is_cut(self, image: ImageData) -> bool:
        """Whether this frame begins another shot than the last one's. The first frame begins none; neither does one that is
        nearly of one color or a narrow strip: what comes after it is compared with what came before it. So it is with a
        flash of one frame or two, which makes a cut into glaring light come as much later. Dissolves are not found, nor is a
        cut to another moment of the same view."""
        current = thumbnail(image)
        if min(current.shape) < BLOCK_SIZE or _textured_blocks(current).mean() < MIN_TEXTURED:
            return False
        is_same_shot = not self._references or any(_is_same_shot(before, current) for before in reversed(self._references))
        if not is_same_shot and self._flash_frames < MAX_FLASH_FRAMES and _may_be_flash(current, self._references[-1]):
            self._flash_frames += 1
            return False
        self._flash_frames = 0
        self._references = [*self._references[-1:], current] if is_same_shot else [current]
        return not is_same_shot


def _may_be_flash(current: FloatImage, previous: FloatImage) -> bool:
    """Whether light may have flooded the image."""
    whiter = float((current >= WHITE_LEVEL).mean() - (previous >= WHITE_LEVEL).mean())
    return whiter > MIN_FLASH_WHITE or float(np.percentile(current, 5) - np.percentile(previous, 5)) > MIN_FLASH_LIFT


def thumbnail(image: ImageData) -> FloatImage:
    """[h, w] gray in [0, 255], the longer side 192 px."""
    return np.asarray(cv2.cvtColor(image.to_bgr255(THUMBNAIL_SIZE), cv2.COLOR_BGR2GRAY), np.float32)


def _is_same_shot(previous: FloatImage, current: FloatImage) -> bool:
    return previous.shape == current.shape and similarity(previous, current) >= MIN_SIMILARITY


def similarity(previous: FloatImage, current: FloatImage) -> float:
    """0 to 1: of the blocks with texture of a frame (see `thumbnail`), those that are found again in another; 1 where most
    of the image is the same, at once, however far it has moved."""
    one, two = _normalize(previous), _normalize(current)
    x, y, correlation = _global_shift(one, two)
    if correlation >= MIN_GLOBAL_CORRELATION:
        return 1.0
    textured = _textured_blocks(previous) & _textured_blocks(_translate(current, x, y))
    if textured.mean() < MIN_TEXTURED and _textured_blocks(current).mean() < MAX_FLASH_TEXTURED:
        return 1.0  # white but for a corner: what comes next tells
    moved = _matched_blocks(one, _translate(two, x, y)), textured
    still = _matched_blocks(one, two), _textured_blocks(previous)
    return max(float(found[where].mean()) if where.mean() >= MIN_TEXTURED else 0.0 for found, where in (moved, still))


def _global_shift(one: FloatImage, two: FloatImage) -> tuple[float, float, float]:
    """By how much most of the first frame has moved in the second, and how much alike they are then: the correlation of
    what they have in common, for all shifts at once (Padfield, IEEE Trans. Image Processing 21(5), 2012)."""
    a, b = _highpass(one), _highpass(two)
    height, width = a.shape
    size = (2 * height, 2 * width)
    whole = np.ones_like(a)
    a1, b1, a2, b2, m = (np.fft.rfft2(v, size) for v in (a, b, a * a, b * b, whole))

    def correlate(first: Any, second: Any) -> NDArray[np.float64]:
        return np.asarray(np.fft.irfft2(np.conj(first) * second, size))

    count = np.maximum(np.rint(correlate(m, m)), 1)
    sum_a, sum_b = correlate(a1, m), correlate(m, b1)
    variances = [np.maximum(v, 1e-6) for v in (correlate(a2, m) - sum_a**2 / count, correlate(m, b2) - sum_b**2 / count)]
    correlation = (correlate(a1, b1) - sum_a * sum_b / count) / np.sqrt(variances[0] * variances[1])
    correlation[count < MIN_OVERLAP * a.size] = -1
    y, x = (int(v) for v in np.unravel_index(np.argmax(correlation), size))
    best = float(correlation[y, x])
    return 2.0 * (x - size[1] * (x > width)), 2.0 * (y - size[0] * (y > height)), best


def _highpass(image: FloatImage) -> FloatImage:
    """Half the size, without light and shade."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(half - cv2.GaussianBlur(half, (0, 0), HIGHPASS_SIGMA), np.float32)


def _matched_blocks(one: FloatImage, two: FloatImage) -> NDArray[np.bool_]:
    """[rows, columns]: the blocks of the first frame that the flow finds again."""
    flow: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]
    bytes_one, bytes_two = (np.rint(image).astype(np.uint8) for image in (one, two))
    forward, backward = flow.calc(bytes_one, bytes_two, None), flow.calc(bytes_two, bytes_one, None)
    y, x = np.mgrid[: one.shape[0], : one.shape[1]].astype(np.float32)
    to_x, to_y = x + forward[..., 0], y + forward[..., 1]
    outside: Any = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (1e3, 1e3)}
    returned = cv2.remap(backward, to_x, to_y, cv2.INTER_LINEAR, **outside)
    agrees = (np.hypot(*np.moveaxis(forward + returned, 2, 0)) < MAX_FORWARD_BACKWARD).astype(np.float32)
    moved = cv2.remap(two, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(
        (_split_blocks(agrees).mean(2) > 0.5)
        & (_block_correlation(_split_blocks(one), _split_blocks(moved)) > MIN_BLOCK_CORRELATION)
    )


def _normalize(image: FloatImage) -> FloatImage:
    """In [0, 255] with one mean and contrast, whatever the light."""
    deviation = max(float(image.std()), 1.0)
    return np.asarray(np.clip((image - image.mean()) * (48 / deviation) + 128, 0, 255), np.float32)


def _translate(image: FloatImage, x: float, y: float) -> FloatImage:
    """What lies at (x, y) comes to (0, 0)."""
    matrix = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE), np.float32)


def _split_blocks(image: NDArray[Any]) -> NDArray[Any]:
    """[rows, columns, pixels]: whole blocks; what is left at the right and below is dropped."""
    rows, columns = (max(1, side // BLOCK_SIZE) for side in image.shape)
    height, width = (min(BLOCK_SIZE, side) for side in image.shape)
    blocks = image[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return blocks.transpose(0, 2, 1, 3).reshape(rows, columns, height * width)


def _textured_blocks(image: FloatImage) -> NDArray[np.bool_]:
    return np.asarray(_split_blocks(image).std(axis=2) >= MIN_BLOCK_STD)


def _block_correlation(one: NDArray[Any], two: NDArray[Any]) -> NDArray[Any]:
    """[rows, columns]: correlation of each block with its counterpart; 0 for flat ones."""
    a, b = (v - v.mean(axis=2, keepdims=True) for v in (one, two))
    norm = np.sqrt((a**2).sum(2) * (b**2).sum(2))
    return np.asarray(np.divide((a * b).sum(2), norm, out=np.zeros_like(norm), where=norm > 0))

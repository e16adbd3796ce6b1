"""Detects cuts and dissolves between the shots of a video, frame by frame.

We do not use scenedetect: it reads files itself, is not part of ComfyUI, and measures the change of colors, which flashes
and fast pans change, too. Here, a frame begins a new shot if no part of the previous frame is found in it, regardless of
motion and brightness. docs/video-benchmarks.md compares both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import FloatImage, ImageData
from .dissolves import DissolveDetector
from .face_motion import normalized_correlation
from .frame_image import FrameImage

THUMBNAIL_SIZE = 192  # px; longer side of the frames that are compared
BLOCK_SIZE = 12  # px
MIN_GLOBAL_CORRELATION = 0.65  # of the overlap of two shifted frames; above it, they are of one shot
MIN_OVERLAP = 0.3  # of the frame
HIGHPASS_SIGMA = 6.0  # px at half size; removes light and shade
MIN_BLOCK_STD = 3.0  # levels of 255; standard deviation of a block with texture
MIN_TEXTURED = 0.04  # of the blocks; frames with fewer textured ones cannot be compared
MAX_FLASH_TEXTURED = 0.15  # of the blocks; a frame with fewer textured ones may be a flash
MIN_BLOCK_CORRELATION = 0.7  # of a block with its counterpart
WHITE_LEVEL = 250  # levels of 255
MIN_FLASH_WHITE = 0.2  # of the frame; a frame with this much more white than the previous one may be a flash
MIN_FLASH_LIFT = 60.0  # levels; so may one whose 5th percentile is this much brighter
MAX_FLASH_FRAMES = 2
MAX_FORWARD_BACKWARD = 1.5  # px between a pixel and its forward and backward flow
MIN_SIMILARITY = 0.33  # of the textured blocks must be found again within one shot
SWAP_SHIFTS = 0.35, 0.65  # of the frame; halves of a frame that change sides move by as much
MIN_SWAP_CORRELATION = 0.4  # of both parts of a frame whose parts change sides
SWAP_TOLERANCE = 0.1  # of the frame; how far the parts may be from filling the frame


class ShotDetector:
    """Detects cuts and dissolves in consecutive frames. It keeps gray thumbnails of the last 1.4 seconds."""

    def __init__(self, rate: float) -> None:
        """`rate`: frames per second."""
        self._cut_detector, self._dissolve_detector = CutDetector(), DissolveDetector(rate, _is_same_shot)
        self._next_number = 0

    def add(self, image: ImageData) -> list[int]:
        """Add the next frame. Return the numbers of frames, counted from 0, that are now known to begin a shot.

        A cut is known with the first frame of the new shot. A dissolve is known after its end, and is taken for a cut in its
        middle."""
        number, small = self._next_number, thumbnail(image)
        self._next_number += 1
        if self._cut_detector.is_cut(small):
            self._dissolve_detector.restart()
            self._dissolve_detector.add(number, small)
            return [number]
        middle = self._dissolve_detector.add(number, small)
        return [] if middle is None else [middle]


class CutDetector:
    """Detects cuts in consecutive frames. It keeps gray thumbnails of the last two frames with texture."""

    def __init__(self) -> None:
        self._references: list[FloatImage] = []
        self._flash_frames = 0

    def is_cut(self, current: FloatImage) -> bool:
        """Whether the frame with this `thumbnail` begins a new shot. The first frame does not.

        Frames of nearly one color, narrow strips and flashes of one or two frames are ignored: the frame after them is
        compared with the one before. A cut into glaring light is therefore found up to two frames late. Cuts to another
        moment of the same view are not found."""
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
    """Whether the frame may be a flash."""
    whiter = float((current >= WHITE_LEVEL).mean() - (previous >= WHITE_LEVEL).mean())
    return whiter > MIN_FLASH_WHITE or float(np.percentile(current, 5) - np.percentile(previous, 5)) > MIN_FLASH_LIFT


def thumbnail(image: ImageData) -> FloatImage:
    """Return a gray thumbnail [h, w] in [0, 255] with a longer side of 192 px."""
    if isinstance(image, FrameImage) and image.thumbnail is not None:
        return image.thumbnail
    return np.asarray(cv2.cvtColor(image.to_bgr255(THUMBNAIL_SIZE), cv2.COLOR_BGR2GRAY), np.float32)


def _is_same_shot(previous: FloatImage, current: FloatImage) -> bool:
    return previous.shape == current.shape and similarity(previous, current) >= MIN_SIMILARITY


def similarity(previous: FloatImage, current: FloatImage) -> float:
    """Return the share of a thumbnail's textured blocks that are found in another, from 0 to 1.

    1 if the two thumbnails are equal after a global shift."""
    one, two = _normalize(previous), _normalize(current)
    if _is_still(one, two):
        return 1.0
    shift = _global_shift(one, two)
    x, y = shift.x, shift.y
    if shift.is_swap:
        return 0.0
    if shift.correlation >= MIN_GLOBAL_CORRELATION:
        return 1.0
    textured = _textured_blocks(previous) & _textured_blocks(_translate(current, x, y))
    if textured.mean() < MIN_TEXTURED and _textured_blocks(current).mean() < MAX_FLASH_TEXTURED:
        return 1.0  # nearly all white; the next frame decides
    moved = _share(_matched_blocks(one, _translate(two, x, y)), textured)
    return max(moved, _share(_matched_blocks(one, two), _textured_blocks(previous)))


def _share(found: NDArray[np.bool_], textured: NDArray[np.bool_]) -> float:
    return float(found[textured].mean()) if textured.mean() >= MIN_TEXTURED else 0.0


class _Shift(NamedTuple):
    """How a frame moved as a whole."""

    x: float
    y: float
    correlation: float
    """Of the overlap."""
    is_swap: bool
    """Whether what left the frame on one side came in on the other: two parts of the frame changed places."""


def _global_shift(one: FloatImage, two: FloatImage) -> _Shift:
    """Return the shift of the second frame.

    All shifts are computed at once (Padfield, IEEE Trans. Image Processing 21(5), 2012)."""
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
    x, y = x - size[1] * (x > width), y - size[0] * (y > height)
    is_still = max(correlation[0, 0], correlation[0, 1], correlation[0, -1]) >= MIN_GLOBAL_CORRELATION
    is_swap = best >= MIN_SWAP_CORRELATION and not is_still and _is_swap(correlation, x, y, (width, height))
    return _Shift(2.0 * x, 2.0 * y, best, is_swap)


def _is_swap(correlation: NDArray[np.float64], x: int, y: int, size: tuple[int, int]) -> bool:
    """Whether the part of the frame that the shift (x, y) leaves out is found at the opposite side.

    `correlation`: of all shifts, see `_global_shift`. `size`: (width, height) of the frames."""
    width, height = size
    least, most = SWAP_SHIFTS
    across, down = least <= abs(x) / width <= most, least <= abs(y) / height <= most
    if across == down:
        return False
    other_x, other_y = (x - int(np.sign(x)) * width, y) if across else (x, y - int(np.sign(y)) * height)
    near_x, near_y = (max(1, round(SWAP_TOLERANCE * side)) for side in size)
    rows = np.arange(other_y - near_y, other_y + near_y + 1) % correlation.shape[0]
    columns = np.arange(other_x - near_x, other_x + near_x + 1) % correlation.shape[1]
    return float(correlation[np.ix_(rows, columns)].max()) >= MIN_SWAP_CORRELATION


def _is_still(one: FloatImage, two: FloatImage) -> bool:
    """Whether the frames are equal without a shift, as most consecutive frames are. This saves all other shifts."""
    return normalized_correlation(_highpass(one), _highpass(two)) >= MIN_GLOBAL_CORRELATION


def _highpass(image: FloatImage) -> FloatImage:
    """Return the image at half size without low frequencies."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(half - cv2.GaussianBlur(half, (0, 0), HIGHPASS_SIGMA), np.float32)


def _matched_blocks(one: FloatImage, two: FloatImage) -> NDArray[np.bool_]:
    """Return [rows, columns]: the blocks of the first frame that optical flow finds in the second."""
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
    """Normalize mean and contrast, in [0, 255]."""
    deviation = max(float(image.std()), 1.0)
    return np.asarray(np.clip((image - image.mean()) * (48 / deviation) + 128, 0, 255), np.float32)


def _translate(image: FloatImage, x: float, y: float) -> FloatImage:
    """Translate the image so that (x, y) moves to (0, 0)."""
    matrix = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE), np.float32)


def _split_blocks(image: NDArray[Any]) -> NDArray[Any]:
    """Return whole blocks [rows, columns, pixels]. The rest at the right and bottom is dropped."""
    rows, columns = (max(1, side // BLOCK_SIZE) for side in image.shape)
    height, width = (min(BLOCK_SIZE, side) for side in image.shape)
    blocks = image[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return blocks.transpose(0, 2, 1, 3).reshape(rows, columns, height * width)


def _textured_blocks(image: FloatImage) -> NDArray[np.bool_]:
    return np.asarray(_split_blocks(image).std(axis=2) >= MIN_BLOCK_STD)


def _block_correlation(one: NDArray[Any], two: NDArray[Any]) -> NDArray[Any]:
    """Return [rows, columns]: correlation of each block with its counterpart, 0 for flat ones."""
    a, b = (v - v.mean(axis=2, keepdims=True) for v in (one, two))
    norm = np.sqrt((a**2).sum(2) * (b**2).sum(2))
    return np.asarray(np.divide((a * b).sum(2), norm, out=np.zeros_like(norm), where=norm > 0))

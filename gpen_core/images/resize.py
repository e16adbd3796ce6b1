"""Resizing with OpenCV; `pipeline.torch_resize` does the same on a device."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Filter = Literal["linear", "cubic", "lanczos"]
FILTERS: dict[Filter, int] = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}


def resize(pixels: NDArray[Any], size: tuple[int, int], enlarge: Filter = "linear") -> NDArray[Any]:
    """Resize [H, W], [H, W, C] or [B, H, W, C] to `size` (width, height), in the same dtype (float16 becomes float32).

    If the width shrinks, or the height at the same width, the image is reduced by area: each pixel is the mean of those
    it covers, so nothing aliases. Otherwise it is interpolated with `enlarge`: linear for masks and network inputs, cubic
    for display, Lanczos (8 x 8 pixels) for photos. Cubic and Lanczos overshoot at edges; floats are not clipped.
    An image that already has this size is returned without a copy."""
    if pixels.dtype == np.float16:  # unsupported by OpenCV
        pixels = pixels.astype(np.float32)
    if pixels.ndim == 4:
        return pixels if _size(pixels[0]) == size else np.stack([resize(one, size, enlarge) for one in pixels])
    if _size(pixels) == size:
        return pixels
    interpolation = cv2.INTER_AREA if size < _size(pixels) else FILTERS[enlarge]
    resized = cv2.resize(pixels, size, interpolation=interpolation)
    return np.asarray(resized).reshape(size[1], size[0], *pixels.shape[2:])  # OpenCV drops a single channel's axis


def resize_longest(batch: NDArray[Any], longest: int) -> NDArray[Any]:
    """Resize [B, H, W, C] to a longer side of `longest` pixels, keeping the aspect ratio; see `resize`."""
    height, width = batch.shape[1:3]
    return resize(batch, scaled_size((width, height), longest))


def scaled_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return (width, height) with the same aspect ratio and a longer side of `longest` pixels; no side is below 1."""
    factor = longest / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _size(pixels: NDArray[Any]) -> tuple[int, int]:
    return int(pixels.shape[1]), int(pixels.shape[0])

"""Decoding pixels of opened files. Where Pillow would lose bits or read wrong values, other decoders are used or the file
is refused."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from ..errors import InputError
from . import jpeg2000, memory_estimate
from .formats import decoder_errors
from .image import Pixels, pil_to_array
from .image_warnings import warn
from .png import strip_to_pixels


def is_decoded_here(image: Image.Image) -> bool:
    """Return whether `decode_pixels` decodes the file itself, so that Pillow need not."""
    return image.format == "HEIF" and memory_estimate.bit_depth(image, b"") > 8


def _decode_deep_heif(source: bytes, bits: int) -> Pixels:
    import pillow_heif

    with decoder_errors():
        opened = pillow_heif.open_heif(source, convert_hdr_to_8bit=False)
        values = np.asarray(opened[opened.primary_index])
    return np.asarray(values | values >> bits)  # they were only shifted to 16 bits, which leaves white below 65535


def decode_pixels(image: Image.Image, source: bytes) -> Pixels:
    """Return the pixels of `image` as [H, W] or [H, W, C] uint8 or uint16, not turned upright.

    `image` must be opened from `source` and, unless `is_decoded_here`, loaded. Pillow silently opens 16-bit color as
    8-bit, and 12-bit gray as if it were 16-bit."""
    bits, tags = memory_estimate.bit_depth(image, source), getattr(image, "tag_v2", None)
    if is_decoded_here(image):
        return _decode_deep_heif(source, bits)
    if image.format == "JPEG2000":
        jpeg2000.check(image, source, bits)
        return pil_to_array(image)
    if image.format == "AVIF" and bits > 8:
        warn(f"The AVIF has {bits} bits per channel, of which 8 are read, because Pillow decodes no more.")
        return pil_to_array(image)
    if image.format == "PNG":
        key = image.info.get("transparency")
        if bits in (2, 4) and isinstance(key, int) and image.mode == "L":
            image.info["transparency"] = key * 255 // (2**bits - 1)  # as Pillow does with the pixels
    if bits not in (1, 2, 4, 8, 16):
        raise InputError(f"the image has {bits} bits per channel. Save it with 8 or 16 bits.")
    if bits < 16:
        return pil_to_array(image)
    return _decode_tiff16(image, tags, source) if tags is not None else _decode_png16(image, source)


def _decode_png16(image: Image.Image, source: bytes) -> Pixels:
    if source[25] in (2, 6):  # IHDR: RGB, RGBA
        return _decode_with_opencv(strip_to_pixels(source, image.size), image.size)
    if source[25] == 4:
        return _decode_with_opencv(strip_to_pixels(source, image.size), image.size)[..., [0, 3]]  # gray and alpha
    gray, key = pil_to_array(image), image.info.get("transparency")
    return np.dstack((gray, np.where(gray == key, 0, 65535).astype(np.uint16))) if isinstance(key, int) else gray


def _decode_tiff16(image: Image.Image, tags: Any, source: bytes) -> Pixels:
    kind, planes = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION), tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    numbers = tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)
    apart = planes > 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1
    if kind not in (0, 1, 2) or apart or any(n != 1 for n in np.atleast_1d(numbers)):
        raise InputError("this kind of 16-bit TIFF is not supported. Save it as RGB or grayscale with interleaved channels.")
    if image.mode.startswith("I"):
        gray = pil_to_array(image)
        return 65535 - gray if kind == 0 else gray  # 0: white is zero
    rgb = _decode_with_opencv(source, image.size)
    if image.mode != "RGBA":
        return rgb[..., :3]  # a fourth channel may be anything, such as a selection
    return _unpremultiply(rgb) if tags.get(TiffImagePlugin.EXTRASAMPLES) == (1,) else rgb


def _unpremultiply(rgba: Pixels) -> Pixels:
    """Undo the multiplication of colors by alpha."""
    alpha = rgba[..., 3:].astype(np.float64)
    rgb = np.rint(rgba[..., :3] * (65535 / np.maximum(alpha, 1))).clip(0, 65535)
    return np.dstack((rgb.astype(np.uint16), rgba[..., 3]))


def _decode_with_opencv(source: bytes, size: tuple[int, int]) -> Pixels:
    array = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:  # OpenCV gives no reason; this raises `MemoryError` if that was it
        np.empty((2, size[1], size[0], 4), np.uint16)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] < 3:
        raise InputError("this 16-bit file is damaged or of an unsupported kind. Save it as a 16-bit PNG.")
    return array[..., [2, 1, 0, 3][: array.shape[2]]]  # BGR(A) -> RGB(A)

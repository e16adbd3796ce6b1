"""How much memory an image will take, told by its header before anything is decoded."""

from __future__ import annotations

from PIL import Image, TiffImagePlugin

from ..errors import OutOfMemory
from . import bmff, jpeg2000

CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I": 1, "F": 1, "LA": 2, "RGBA": 4, "PA": 4}
# From the file to the restored file, as measured (docs/reliability.md): the file as it was and as it will be; Pillow's own
# pixels and the mask, 4 bytes each, and 40 where faces are, taken for a quarter of the image; the image decoded,
# reordered, restored and prepared for encoding.
FILE_COPIES, FIXED_BYTES_PER_PIXEL, PIXEL_COPIES = 2, 18, 5
WEBP_BYTES_PER_PIXEL = 20  # bytes per pixel: what libwebp's lossless encoder takes


HEADER_BYTES = 1 << 14  # bytes of the file that `bit_depth` looks at


def estimate(image: Image.Image, file_bytes: int, bits: int) -> int:
    """Bytes at most to read, restore and write the image that `image`, not loaded yet, is of; `bits` per channel."""
    pixel = CHANNELS.get(image.mode.split(";B")[0].split(";N")[0], 3) * (2 if bits > 8 else 1)
    pixels = image.width * image.height * (bytes_per_pixel(pixel) + (WEBP_BYTES_PER_PIXEL if image.format == "WEBP" else 0))
    return FILE_COPIES * file_bytes + pixels


def bytes_per_pixel(pixel: int) -> int:
    """Bytes at most for one pixel of an image with `pixel` bytes in each, beside its file."""
    return FIXED_BYTES_PER_PIXEL + PIXEL_COPIES * pixel


def raise_if_too_large(image: Image.Image, needed: int, allowed: int) -> None:
    """`OutOfMemory`, with the figures, where the image is not allowed what it needs."""
    if needed > allowed:
        raise OutOfMemory(
            f"{image.width} x {image.height} pixels take up to {needed / 1e9:.2f} GB to read, restore and write, and "
            f"{allowed / 1e9:.2f} GB are allowed. Nothing was decoded: allow more, or make it smaller."
        )


def bit_depth(image: Image.Image, start: bytes) -> int:
    """Bits per channel in the file, which starts with these bytes: Pillow opens 16-bit color as 8-bit without a word."""
    if image.format == "PNG" and len(start) > 24:
        return start[24]  # IHDR: width, height, bit depth
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        numbers = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 1)
        return int(max(numbers) if isinstance(numbers, tuple) else numbers)
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    if image.format == "AVIF":
        return bmff.av1_bit_depth(start)
    return jpeg2000.bit_depth(start) if image.format == "JPEG2000" else 8

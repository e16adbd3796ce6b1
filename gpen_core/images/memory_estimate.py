"""Estimating an image's memory from its header, before decoding."""

from __future__ import annotations

from PIL import Image, TiffImagePlugin

from ..errors import OutOfMemory
from ..files.size_text import memory_text
from . import bmff, jpeg2000

CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I": 1, "F": 1, "LA": 2, "RGBA": 4, "PA": 4}
# Measured from the input file to the restored file (docs/reliability.md). FILE_COPIES: input and output file.
# FIXED_BYTES_PER_PIXEL: Pillow's pixels and the mask, 4 bytes each, and 40 bytes for faces on a quarter of the image.
# PIXEL_COPIES: the image decoded, reordered, restored and prepared for encoding.
FILE_COPIES, FIXED_BYTES_PER_PIXEL, PIXEL_COPIES = 2, 18, 5
WEBP_BYTES_PER_PIXEL = 20  # used by libwebp's lossless encoder


HEADER_BYTES = 1 << 14  # bytes of the file that `bit_depth` reads


def estimate(image: Image.Image, file_bytes: int, bits: int) -> int:
    """Return the maximum bytes needed to read, restore and write `image` (opened, not loaded) with `bits` per channel."""
    pixel = CHANNELS.get(image.mode.split(";B")[0].split(";N")[0], 3) * (2 if bits > 8 else 1)
    pixels = image.width * image.height * (bytes_per_pixel(pixel) + (WEBP_BYTES_PER_PIXEL if image.format == "WEBP" else 0))
    return FILE_COPIES * file_bytes + pixels


def bytes_per_pixel(pixel: int) -> int:
    """Return the maximum bytes per pixel, without the file, for an image with `pixel` bytes per pixel."""
    return FIXED_BYTES_PER_PIXEL + PIXEL_COPIES * pixel


def raise_if_too_large(image: Image.Image, needed: int, allowed: int) -> None:
    """Raise `OutOfMemory`, with both figures, if the image needs more than allowed."""
    if needed > allowed:
        raise OutOfMemory(
            f"{image.width} x {image.height} pixels need up to {memory_text(needed)} to read, restore and write, but only "
            f"{memory_text(allowed)} are allowed. Allow more memory, or make the image smaller."
        )


def bit_depth(image: Image.Image, start: bytes) -> int:
    """Return the bits per channel in the file that begins with `start`. Pillow silently opens 16-bit color as 8-bit."""
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

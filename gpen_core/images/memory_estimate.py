"""How much memory a picture will take, told by its header before anything is decoded."""

from __future__ import annotations

from PIL import Image, TiffImagePlugin

from ..errors import OutOfMemory

CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I": 1, "F": 1, "LA": 2, "RGBA": 4, "PA": 4}
# From the file to the restored file, as measured (docs/reliability.md): the file as it was and as it will be; Pillow's own
# pixels and the mask, 4 bytes each, and 40 where faces are, taken for a quarter of the picture; the picture decoded,
# reordered, restored and prepared for encoding.
FILES, PER_PIXEL, COPIES = 2, 18, 5
WEBP = 20  # bytes per pixel: what libwebp's lossless encoder takes


START = 33  # bytes of the file that `bits_of` looks at


def estimate(image: Image.Image, file_bytes: int, bits: int) -> int:
    """Bytes at most to read, restore and write the picture that `image`, not loaded yet, is of; `bits` per channel."""
    pixel = CHANNELS.get(image.mode.split(";B")[0].split(";N")[0], 3) * (2 if bits > 8 else 1)
    pixels = image.width * image.height * (per_pixel(pixel) + (WEBP if image.format == "WEBP" else 0))
    return FILES * file_bytes + pixels


def per_pixel(pixel: int) -> int:
    """Bytes at most for one pixel of a picture with `pixel` bytes in each, beside its file."""
    return PER_PIXEL + COPIES * pixel


def refuse(image: Image.Image, needed: int, allowed: int) -> None:
    """`OutOfMemory`, with the figures, where the picture is not allowed what it needs."""
    if needed > allowed:
        raise OutOfMemory(
            f"{image.width} x {image.height} pixels take up to {needed / 1e9:.2f} GB to read, restore and write, and "
            f"{allowed / 1e9:.2f} GB are allowed. Nothing was decoded: allow more, or make it smaller."
        )


def bits_of(image: Image.Image, start: bytes) -> int:
    """Bits per channel in the file, which starts with these bytes: Pillow opens 16-bit colour as 8-bit without a word."""
    if image.format == "PNG" and len(start) > 24:
        return start[24]  # IHDR: width, height, bit depth
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        numbers = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 1)
        return int(max(numbers) if isinstance(numbers, tuple) else numbers)
    return 8

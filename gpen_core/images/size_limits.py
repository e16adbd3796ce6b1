"""Limits on image size, checked from the header before decoding."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ..errors import ImageTooLarge, InputError, OutputError
from ..files.host_memory import HOST_MEMORY_FRACTION, host_memory
from ..files.size_text import memory_text
from . import bmff
from .formats import is_animated, label

MAX_PIXELS = 178_956_970  # allowed on any machine; equal to Pillow's limit for an error
MOST_PIXELS = 1 << 30  # OpenCV's limit
MAX_SIDE = 1 << 20  # pixels: Pillow's time for raw rows grows quadratically, a minute for 16 million
# BMP's RLE8 and RLE4, which Pillow decodes in Python: 138 bytes can need a minute.
RLE_COMPRESSIONS, MAX_RLE_PIXELS = (1, 2), 1 << 24
MAX_FORMAT_SIDE = {"JPEG": 65500, "WEBP": 16383}  # longest side in libjpeg and in the WebP format


@dataclass(frozen=True)
class ReadLimits:
    """The limits for images that are read from a path or from bytes, see `codecs.read`."""

    max_memory: int | None = None
    """Bytes to read, restore and write one image; None: no limit."""
    max_pixels: int | None = None
    """None: the limit of `check_pixels`."""


NO_LIMITS = ReadLimits()


def check_pixels(image: Image.Image, needed: int, max_pixels: int | None = None) -> None:
    """Raise `ImageTooLarge` for more than `max_pixels`.

    Without `max_pixels`, `MAX_PIXELS` are always allowed. More are allowed if half of the machine's memory holds the
    `needed` bytes for reading, restoring and writing."""
    size, pixels = f"{image.width} x {image.height}", image.width * image.height
    limit = min(MOST_PIXELS, max_pixels or MOST_PIXELS)
    if pixels > limit:
        raise ImageTooLarge(f"{size} pixels are too many: the limit is {limit:,} pixels.")
    memory = host_memory() or 0
    if max_pixels is None and pixels > MAX_PIXELS and needed > memory * HOST_MEMORY_FRACTION:
        there = f"this machine has {memory_text(memory)}" if memory else "this machine's memory is unknown"
        raise ImageTooLarge(
            f"{size} pixels are too many for this machine: restoring {pixels / 1e6:.0f} million needs up to "
            f"{memory_text(needed)}, and {there}. To try it anyway, set max_pixels to {pixels}."
        )


def check_image(image: Image.Image, source: bytes) -> None:
    """Raise `ImageTooLarge` for a side that is too long, and `InputError` for a file with several images."""
    longest = MAX_FORMAT_SIDE.get(str(image.format), MAX_SIDE)
    if max(image.size) > longest:
        raise ImageTooLarge(f"{image.width} x {image.height} pixels are too many: a side may have at most {longest}.")
    runs = image.format == "BMP" and image.info.get("compression") in RLE_COMPRESSIONS
    if runs and image.width * image.height > MAX_RLE_PIXELS:
        raise InputError(f"the run-length encoded BMP is too large ({image.width} x {image.height} pixels). Save it as PNG.")
    if bmff.is_sequence(source[: bmff.FILE_TYPE_BYTES]) or (
        # An MPO is a phone's photo with previews after it. A HEIC may have further images; the primary one is read.
        image.format not in ("MPO", "HEIF", "TIFF") and is_animated(image)
    ):
        raise InputError(_animation_message(str(image.format)))
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise InputError(f"the file contains {getattr(image, 'n_frames', 1)} images. Save the one you need to its own file.")


def _animation_message(format_name: str) -> str:
    first = "save it as GIF or MP4, then " if format_name == "HEIF" else ""  # HEIC sequences were not tried
    return (
        f"the {label(format_name)} is animated. To restore all frames, {first}run `gpen video IN -o OUT.mp4`; "
        "to restore one frame, save it to its own file."
    )


def check_dimensions(format_name: str, size: tuple[int, int]) -> None:
    """Raise `OutputError` if the format cannot hold an image of this (width, height)."""
    if format_name in MAX_FORMAT_SIDE and max(size) > MAX_FORMAT_SIDE[format_name]:
        raise OutputError(
            f"{format_name} allows at most {MAX_FORMAT_SIDE[format_name]} pixels per side, not {size[0]} x {size[1]}."
            " Choose a .png or .tiff name for the output."
        )

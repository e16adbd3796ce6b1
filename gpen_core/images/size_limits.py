"""How large an image may be, told by its header before anything is decoded."""

from __future__ import annotations

from PIL import Image

from ..errors import ImageTooLarge, InputError, OutputError
from ..files.host_memory import HOST_MEMORY_FRACTION, host_memory
from . import bmff
from .formats import is_animated, label

MAX_PIXELS = 178_956_970  # that any machine may try; Pillow's own limit for an error
MOST_PIXELS = 1 << 30  # that OpenCV works on
MAX_SIDE = 1 << 20  # pixels: Pillow's time for raw rows grows with their square, a minute for 16 million
# BMP's RLE8 and RLE4, which Pillow unpacks in Python: 138 bytes can take a minute.
RLE_COMPRESSIONS, MAX_RLE_PIXELS = (1, 2), 1 << 24
MAX_FORMAT_SIDE = {"JPEG": 65500, "WEBP": 16383}  # longest side, of libjpeg and of the format
READ_BY_VIDEO = ("GIF", "AVIF", "HEIF")
"""Formats whose animations `gpen video` reads."""


def check_pixels(image: Image.Image, needed: int, max_pixels: int | None = None) -> None:
    """Raises `ImageTooLarge` for more than `max_pixels`.

    Without it, `MAX_PIXELS` are read anywhere, and more where half of the machine's memory holds the `needed` bytes that
    reading, restoring and writing may take."""
    size, pixels = f"{image.width} x {image.height}", image.width * image.height
    limit = min(MOST_PIXELS, max_pixels or MOST_PIXELS)
    if pixels > limit:
        raise ImageTooLarge(f"{size} pixels are too many: at most {limit / 1e6:.0f} million are read.")
    memory = host_memory() or 0
    if max_pixels is None and pixels > MAX_PIXELS and needed > memory * HOST_MEMORY_FRACTION:
        there = f"this machine has {memory / 1e9:.1f} GB" if memory else "how much this machine has is not known"
        raise ImageTooLarge(
            f"{size} pixels are too many for this machine: restoring {pixels / 1e6:.0f} million takes up to "
            f"{needed / 1e9:.1f} GB, and {there}. To try it: --max-pixels {pixels}."
        )


def check_image(image: Image.Image, source: bytes) -> None:
    """Raises `ImageTooLarge` for a side that takes too long, and `InputError` for a file of several images."""
    longest = MAX_FORMAT_SIDE.get(str(image.format), MAX_SIDE)
    if max(image.size) > longest:
        raise ImageTooLarge(f"{image.width} x {image.height} pixels: a side of more than {longest} is not read.")
    runs = image.format == "BMP" and image.info.get("compression") in RLE_COMPRESSIONS
    if runs and image.width * image.height > MAX_RLE_PIXELS:
        raise InputError(f"a BMP in runs (RLE) of {image.width} x {image.height} pixels. Save it again as a PNG.")
    if bmff.is_sequence(source[: bmff.FILE_TYPE_BYTES]) or (
        # An MPO is a phone's photograph with previews behind it, a HEIC may have further images, of which one is the first.
        image.format not in ("MPO", "HEIF", "TIFF") and is_animated(image)
    ):
        raise InputError(_animation_message(str(image.format)))
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"the file holds {getattr(image, 'n_frames', 1)} images. Save the one you want to a file of its own."
        )


def _animation_message(format_name: str) -> str:
    first = "" if format_name in READ_BY_VIDEO else "save it as GIF or MP4, then "
    return (
        f"the {label(format_name)} is animated. To restore it all, {first}use `gpen video`; "
        "to restore one image of it, save that to a file of its own."
    )


def check_dimensions(format_name: str, size: tuple[int, int]) -> None:
    """Raises `OutputError` where the format cannot hold an image of that width and height."""
    if format_name in MAX_FORMAT_SIDE and max(size) > MAX_FORMAT_SIDE[format_name]:
        raise OutputError(
            f"{format_name} holds at most {MAX_FORMAT_SIDE[format_name]} pixels a side, not {size[0]} x {size[1]}."
            " Choose a .png or .tiff name for the output."
        )

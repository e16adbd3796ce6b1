"""Encoders for what Pillow cannot write: 16-bit PNG, and TIFF of any depth with all its tags."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from PIL import TiffImagePlugin

from ..errors import OutputError
from .image import ImageData, Pixels
from .metadata import Metadata
from .metadata_writing import insert_chunks, tiff_entries
from .png import PNG_SIGNATURE, png_chunk
from .tiff import INTEGER_FORMATS, TiffField, TiffType, write_directory

LONG_TAGS = (
    TiffImagePlugin.IMAGEWIDTH,
    TiffImagePlugin.IMAGELENGTH,
    TiffImagePlugin.STRIPOFFSETS,
    TiffImagePlugin.ROWSPERSTRIP,
    TiffImagePlugin.STRIPBYTECOUNTS,
)


def to_8bit(image: ImageData) -> ImageData:
    """Return the image in uint8, rounded; unchanged if it is uint8 already."""
    if image.pixels.dtype == np.uint8:
        return image
    factor = 255 / image.max_value
    alpha = None if image.alpha is None else np.rint(image.alpha * factor).clip(0, 255).astype(np.uint8)
    return ImageData(np.rint(image.pixels * factor).clip(0, 255).astype(np.uint8), alpha)


def color_channels(image: ImageData, format_name: str) -> int:
    """Return the color channels in the file, 1 or 3. WebP has no gray; 16-bit gray TIFF with alpha is readable by few
    programs."""
    rare = format_name == "TIFF" and image.pixels.dtype == np.uint16 and image.alpha is not None
    return 3 if rare or format_name == "WEBP" else int(image.pixels.shape[2])


def _stack_channels(image: ImageData, format_name: str) -> Pixels:
    """Return color and alpha as [H, W, 1 to 4]."""
    times = color_channels(image, format_name) // image.pixels.shape[2]
    planes = [image.pixels] * times + ([] if image.alpha is None else [image.alpha])
    return planes[0] if len(planes) == 1 else np.dstack(planes)


def encode_png16(image: ImageData, metadata: Metadata) -> bytes:
    """Encode a uint16 image as PNG. Raises `OutputError` if OpenCV cannot encode it."""
    array = _stack_channels(image, "PNG")
    if array.shape[2] == 2:
        return insert_chunks(_encode_png_gray_alpha(array), metadata)
    order = [0] if array.shape[2] == 1 else [2, 1, 0, 3][: array.shape[2]]
    done, png = cv2.imencode(".png", np.ascontiguousarray(array[..., order]))  # RGB(A) -> BGR(A)
    if not done:
        raise OutputError("OpenCV could not encode the image as a 16-bit PNG.")
    return insert_chunks(png.tobytes(), metadata)


def _encode_png_gray_alpha(array: Pixels) -> bytes:
    """Encode 16-bit gray with alpha, which neither Pillow nor OpenCV writes. Rows store the difference to the row above."""
    height, width = array.shape[:2]
    rows = array.astype(">u2").view(np.uint8).reshape(height, -1)
    rows = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))  # wraps around
    rows = np.insert(rows, 0, 2, axis=1)  # PNG 1.2, 6.4: filter type Up
    header = struct.pack(">LLBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")
    return PNG_SIGNATURE + b"".join(png_chunk(kind, payload) for kind, payload in chunks)


def encode_tiff(image: ImageData, metadata: Metadata) -> bytes:
    """Encode a TIFF of one deflated strip with horizontal prediction.

    Pillow has no mode for 16-bit color, and OpenCV writes no tags. The byte order is the EXIF block's, because some of
    its values depend on it."""
    array = _stack_channels(image, "TIFF")
    height, width, channels = array.shape
    differences = array.copy()
    differences[:, 1:] -= array[:, :-1]  # wraps around, see TIFF 6.0 section 14
    order, entries = tiff_entries(metadata)
    strip = zlib.compress(differences.astype(f"{order}u{array.itemsize}", copy=False).tobytes(), 6)
    numbers: dict[int, tuple[int, ...]] = {
        TiffImagePlugin.IMAGEWIDTH: (width,),
        TiffImagePlugin.IMAGELENGTH: (height,),
        TiffImagePlugin.BITSPERSAMPLE: (8 * array.itemsize,) * channels,
        TiffImagePlugin.COMPRESSION: (8,),  # Adobe deflate
        TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: (1 if channels < 3 else 2,),
        TiffImagePlugin.STRIPOFFSETS: (0,),
        TiffImagePlugin.SAMPLESPERPIXEL: (channels,),
        TiffImagePlugin.ROWSPERSTRIP: (height,),
        TiffImagePlugin.STRIPBYTECOUNTS: (len(strip),),
        TiffImagePlugin.PREDICTOR: (2,),
        TiffImagePlugin.SAMPLEFORMAT: (1,) * channels,
    }
    if image.alpha is not None:
        numbers[TiffImagePlugin.EXTRASAMPLES] = (2,)  # unassociated alpha
    for tag, values in numbers.items():
        entries[tag] = _tiff_field(tag, values, order)
    start = len(write_directory(entries, order, 8)) + 8
    entries[TiffImagePlugin.STRIPOFFSETS] = _tiff_field(TiffImagePlugin.STRIPOFFSETS, (start,), order)
    header = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(order + "L", 8)
    return header + write_directory(entries, order, 8) + strip


def _tiff_field(tag: int, values: tuple[int, ...], order: str) -> TiffField:
    """Return the field as LONG for sizes and positions, else as SHORT."""
    kind = TiffType.LONG if tag in LONG_TAGS else TiffType.SHORT
    return TiffField(kind, len(values), struct.pack(f"{order}{len(values)}{INTEGER_FORMATS[kind]}", *values))

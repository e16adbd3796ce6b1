"""Picture files: PNG, JPEG, WebP, TIFF and BMP of 8 and 16 bits, read upright and written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from .errors import InputError, OutputError
from .images import ORIENTATION, PEAKS, Picture, Pixels, from_array, pil_to_array, to_pil, upright
from .metadata import Metadata, collect, exif_object, into_png, save_arguments, with_png_colour

MAX_PIXELS = 178_956_970  # Pillow's own limit for an error, applied here whatever the host has set it to
JPEG_QUALITY = 95
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
SUFFIXES = {
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".bmp": "BMP",
}
# What Pillow and OpenCV raise on broken files.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    cv2.error,
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture and what its file carried."""

    picture: Picture
    metadata: Metadata
    format: str
    """PNG, JPEG, WEBP, TIFF or BMP."""
    lossy: bool
    """Whether the file's compression loses (JPEG, most WebP)."""


def read(path: Path) -> Photo:
    """Reads one picture, turned upright. Raises `InputError` if it is missing, broken, too large or of several pages."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return decode(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def decode(data: bytes) -> Photo:
    """As `read`, from a file's bytes."""
    orientation = take_tiff_orientation(buffer := bytearray(data))
    source = bytes(buffer)
    Image.init()  # a host may have loaded only some of Pillow's formats
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            image = Image.open(io.BytesIO(source), formats=FORMATS)
        _check_size(image)
        orientation = orientation or image.getexif().get(ORIENTATION, 1)
        image.load()
        metadata = collect(image, source)
        pixels = _sixteen_bits(source) if _bits(image, source) == 16 else pil_to_array(image)
    except UnidentifiedImageError as error:
        raise InputError("not a PNG, JPEG, WebP, TIFF or BMP picture.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"too large: at most {MAX_PIXELS / 1e6:.0f} million pixels are read.") from error
    except BROKEN as error:
        raise InputError(f"the file is damaged ({error}).") from error
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    lossy = kind == "JPEG" or (kind == "WEBP" and not _webp_is_lossless(source))
    return Photo(from_array(upright(pixels, orientation)), metadata, kind, lossy)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{image.width} x {image.height} pixels are too many: at most {MAX_PIXELS / 1e6:.0f} million are read."
        )
    # An MPO is a phone's photograph with previews behind it; of anything else, the other pages would be lost.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"the file holds {getattr(image, 'n_frames', 1)} pictures. Save the one you want to a file of its own."
        )


def _bits(image: Image.Image, source: bytes) -> int:
    """Bits per channel in the file; Pillow opens 16-bit colour as 8-bit without a word."""
    if image.format == "PNG":
        return source[24]  # IHDR: width, height, bit depth
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        return int(max(bits) if isinstance(bits, tuple) else bits)
    return 8


def _sixteen_bits(source: bytes) -> Pixels:
    array = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise InputError("this kind of 16-bit file cannot be decoded. Save it as a 16-bit PNG.")
    if array.ndim == 3 and array.shape[2] >= 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]  # BGR(A) -> RGB(A)
    return array


def take_tiff_orientation(data: bytearray) -> int | None:
    """Sets a TIFF's orientation tag to 1 in place and returns what it was: decoders differ in whether they apply it."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(data[:4]))
    if order is None or len(data) < 10:
        return None
    (start,) = struct.unpack_from(order + "L", data, 4)
    if start + 2 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag == ORIENTATION and kind == 3:  # SHORT
            (value,) = struct.unpack_from(order + "H", data, at + 8)
            struct.pack_into(order + "H", data, at + 8, 1)
            return int(value)
    return None


def _webp_is_lossless(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        at += 8 + length + length % 2
    return False


def format_of(path: Path, fallback: str) -> str:
    """The format that a file name asks for; `fallback` where it has no picture's suffix."""
    return SUFFIXES.get(path.suffix.lower(), fallback)


def encode(photo: Photo, format_name: str) -> bytes:
    """The file's bytes. JPEG at quality 95 and 4:4:4; WebP without loss unless it came from a lossy one."""
    picture = photo.picture
    if format_name in ("JPEG", "BMP") and picture.alpha is not None:
        raise OutputError(f"{format_name} cannot hold an alpha channel. Choose a .png, .webp or .tiff name for the output.")
    if format_name == "TIFF":
        return _encode_tiff(picture if picture.pixels.dtype in PEAKS else _eight_bits(picture), photo.metadata)
    if format_name == "PNG" and picture.pixels.dtype == np.uint16:
        return _encode_png_sixteen(picture, photo.metadata)
    out = io.BytesIO()
    to_pil(_eight_bits(picture)).save(
        out, format_name, **_quality(photo, format_name), **save_arguments(photo.metadata, format_name)
    )
    data = out.getvalue()
    return with_png_colour(data, photo.metadata) if format_name == "PNG" else data


def _quality(photo: Photo, format_name: str) -> dict[str, Any]:
    if format_name == "JPEG":
        return {"quality": JPEG_QUALITY, "subsampling": 0}
    if format_name == "WEBP":
        lossy = {"quality": JPEG_QUALITY, "method": 4}
        return lossy if photo.format == "WEBP" and photo.lossy else {"lossless": True, "exact": True}
    return {}


def _eight_bits(picture: Picture) -> Picture:
    if picture.pixels.dtype == np.uint8:
        return picture
    factor = 255 / picture.peak
    alpha = None if picture.alpha is None else np.rint(picture.alpha * factor).astype(np.uint8)
    return Picture(np.rint(picture.pixels * factor).clip(0, 255).astype(np.uint8), alpha)


def _channels(picture: Picture) -> Pixels:
    """[H, W, 1 to 4]; 16-bit grey with alpha as RGBA, since OpenCV writes and Pillow reads none."""
    if picture.alpha is None:
        return picture.pixels
    deep_grey = picture.pixels.dtype == np.uint16 and picture.pixels.shape[2] == 1
    return np.dstack((*[picture.pixels] * (3 if deep_grey else 1), picture.alpha))


def _encode_png_sixteen(picture: Picture, metadata: Metadata) -> bytes:
    array = _channels(picture)
    order = [0] if array.shape[2] == 1 else [2, 1, 0, 3][: array.shape[2]]
    done, png = cv2.imencode(".png", np.ascontiguousarray(array[..., order]))  # RGB(A) -> BGR(A)
    if not done:
        raise OutputError("OpenCV could not encode the picture as a 16-bit PNG.")
    return into_png(png.tobytes(), metadata)


def _encode_tiff(picture: Picture, metadata: Metadata) -> bytes:
    """A little-endian TIFF of one deflated strip, differences between neighbours: Pillow writes the tags, EXIF among
    them, but has no mode for 16-bit colour; OpenCV writes such pixels, but no tags."""
    array = _channels(picture)
    height, width, channels = array.shape
    bits = 8 * array.itemsize
    differences = array.copy()
    differences[:, 1:] -= array[:, :-1]  # wraps around, as TIFF 6.0 section 14 has it
    strip = zlib.compress(differences.astype(f"<u{array.itemsize}", copy=False).tobytes(), 6)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    exif = exif_object(metadata)
    for tag in exif:
        tags[tag] = exif.get_ifd(tag) if tag in (0x8769, 0x8825) else exif[tag]
    if metadata.icc:
        tags[TiffImagePlugin.ICCPROFILE] = metadata.icc
    if metadata.dpi:
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = metadata.dpi
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inch
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (bits,) * channels
    tags[TiffImagePlugin.COMPRESSION] = 8  # Adobe deflate
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels < 3 else 2
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.ROWSPERSTRIP] = height
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = len(strip)
    tags[TiffImagePlugin.STRIPOFFSETS] = 0  # relative: Pillow adds the directory's end
    tags[TiffImagePlugin.SAMPLEFORMAT] = (1,) * channels
    tags[TiffImagePlugin.PREDICTOR] = 2
    if picture.alpha is not None:
        tags[TiffImagePlugin.EXTRASAMPLES] = 2  # unassociated alpha
    out = io.BytesIO()
    tags.save(out)
    return out.getvalue() + strip


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to and moves it there at the end; on any failure nothing of it stays."""
    target = Path(os.path.realpath(path))  # a link keeps pointing where it did
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    part = Path(name)
    try:
        yield part
        _like_existing(part, target)
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}. It was left as it was.") from error
    finally:
        part.unlink(missing_ok=True)


def _like_existing(part: Path, target: Path) -> None:
    """Permissions of the file to be replaced, else those a new file gets (mkstemp makes it private)."""
    if target.exists():
        mode = target.stat().st_mode & 0o7777
    else:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    part.chmod(mode)


def write_bytes(path: Path, data: bytes) -> None:
    """`path` holds all of `data` afterwards, or what it held before; `OutputError` in the latter case."""
    with whole_file(path) as part, open(part, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())

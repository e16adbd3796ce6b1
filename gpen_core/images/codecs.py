"""Reading image files of 8 and 16 bits upright, and encoding them as PNG, JPEG, WebP, TIFF or BMP."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError, OutOfMemory, OutputError, is_out_of_memory, oom_context
from . import bmff, jpeg2000, jpeg_scans, memory_estimate, png_integrity, size_limits, tiff_integrity
from .decoders import decode_pixels, is_decoded_here
from .dropped_metadata import dropped_fields, dropped_note
from .encoders import color_channels, encode_png16, encode_tiff, to_8bit
from .formats import INPUT_FORMATS, label, load, open_header, other_kind
from .image import (
    DECODE_ERRORS,
    MAX_VALUES,
    ORIENTATION_TAG,
    ImageData,
    Pixels,
    apply_orientation,
    from_array,
    to_pil,
)
from .image_warnings import collect_warnings, warn
from .metadata import Metadata, oversized_message, read_metadata, read_orientation
from .metadata_writing import (
    drop_gray_profile,
    drop_oversized,
    insert_jpeg_segments,
    insert_png_color,
    save_arguments,
    warn_about_losses,
)
from .open_file import open_image
from .resized_metadata import with_upright_dimensions
from .tiff import INTEGER_FORMATS, iter_entries, parse_tiff_header
from .xmp_trailing_data import without_extension

JPEG_QUALITY = 95
OPAQUE_FORMATS = ("JPEG", "BMP")  # without alpha channel
SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WEBP", b"II": "TIFF", b"MM": "TIFF", b"BM": "BMP"}
SIGNATURES |= {b"GIF8": "GIF", b"\0\0\0\x0cjP  ": "JPEG2000", jpeg2000.CODESTREAM: "JPEG2000"}


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image with its file's metadata."""

    image: ImageData
    metadata: Metadata
    format: str
    """PNG, JPEG, WEBP, TIFF or BMP; after reading, any of `formats.INPUT_FORMATS`."""
    lossy: bool
    """Whether the file's compression is lossy (JPEG, HEIC, AVIF, JPEG 2000, most WebP)."""
    data: bytes = b""
    """The file's bytes, if the image was read from a file."""

    def __repr__(self) -> str:
        return f"EncodedImage({self.format}, {self.image!r})"

    @classmethod
    def from_bytes(cls, data: bytes, max_pixels: int | None = None) -> EncodedImage:
        """Decode the bytes of a file in one of `formats.INPUT_FORMATS` and turn the image upright.

        Raises `ImageTooLarge` from the header, before decoding, and `InputError`."""
        with oom_context("reading the image"):
            return decode(data, max_pixels=max_pixels)

    @staticmethod
    def check_size(data: bytes, max_pixels: int | None = None) -> None:
        """Raise `ImageTooLarge` if the file's header claims more pixels. Bytes that are not an image are accepted."""
        check_size(data, max_pixels)

    def to_bytes(self, format_name: str) -> bytes:
        """Return a file in this format with the metadata that it can hold; see `encode`."""
        with oom_context("writing the image"):
            return encode(self, format_name)

    @property
    def dropped_note(self) -> tuple[str, ...]:
        """Note on the metadata that a new file will not have."""
        return dropped_note(self.metadata)


def read(path: Path, max_memory: int | None = None, max_pixels: int | None = None) -> EncodedImage:
    """Read one image and turn it upright.

    Raises `InputError` if the file is missing, not a regular file, broken, too large (see `size_limits.check_pixels`) or
    has several pages. Raises `OutOfMemory` before decoding if reading, restoring and writing need more than `max_memory`
    bytes (see `required_memory`)."""
    with open_image(path) as (file, _):
        data = file.read()
    return decode_file(data, str(path), max_memory, max_pixels)


def decode_file(data: bytes, name: str, max_memory: int | None = None, max_pixels: int | None = None) -> EncodedImage:
    """Do the same as `read` with the bytes of a file. Errors and warnings begin with its name."""
    with collect_warnings() as found:
        try:
            encoded = decode(data, max_memory, max_pixels)
        except (InputError, OutOfMemory) as error:
            raise type(error)(f"{name}: {error}") from error
    for text in found:
        warn(f"{name}: {text}")
    return replace(encoded, data=data)


def required_memory(path: Path) -> int:
    """Return the bytes needed to read, restore and write the image, estimated from its header; an upper bound of the
    measured values for every format.

    For a file that is not an image, it is a small multiple of its size, because reading reports the problem. Raises
    `InputError` as `read` does."""
    with open_image(path) as (file, size):
        return required_memory_of_file(file, size)


def required_memory_of_file(file: BinaryIO, size: int) -> int:
    """Like `required_memory`, for an open file of `size` bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading logs them
        try:
            start = file.read(memory_estimate.HEADER_BYTES)
            file.seek(0)
            with open_header(file) as image:
                return memory_estimate.estimate(image, size, memory_estimate.bit_depth(image, start))
        except (UnidentifiedImageError, InputError, *DECODE_ERRORS):
            return memory_estimate.FILE_COPIES * size


def has_alpha(path: Path) -> bool:
    """Return whether the header of an image file declares an alpha channel or a transparent color.

    False for a file that is not an image, because reading reports the problem. Raises `InputError` if the file cannot be
    opened."""
    with open_image(path) as (file, _), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with open_header(file) as image:
                return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
        except (UnidentifiedImageError, InputError, *DECODE_ERRORS):
            return False


def decode(data: bytes, max_memory: int | None = None, max_pixels: int | None = None) -> EncodedImage:
    """Like `read`, from the bytes of a file."""
    source, exif_orientation = data, None
    try:
        if parse_tiff_header(data) is not None:
            exif_orientation = pop_tiff_orientation(buffer := bytearray(data))
            source = bytes(buffer)
            del buffer
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = _load(source, max_memory, max_pixels)
        exif_orientation = read_orientation(image) if exif_orientation is None else exif_orientation
        metadata = replace(read_metadata(image, source), dropped=dropped_fields(image, source))
        pixels = decode_pixels(image, source)
        if image.format == "TIFF":
            tiff_integrity.check(image, source, pixels)
        elif image.format == "PNG":
            png_integrity.check(source, pixels)
    except UnidentifiedImageError as error:
        raise InputError(_unknown_format_message(source)) from error
    except DECODE_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise InputError(oversized_message(source, error) or _damage_message(error)) from error
    # Other threads' warnings (e.g. from the network) are recorded here as well, so only Pillow's and ours are logged.
    own = [warning for warning in caught if Path(warning.filename).parent.name in ("PIL", Path(__file__).parent.name)]
    for text in dict.fromkeys(str(warning.message) for warning in own):
        warn(f"The file has minor errors: {text}")
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    lossy = kind in ("JPEG", "HEIF", "AVIF", "JPEG2000") or (kind == "WEBP" and not _webp_is_lossless(source))
    upright = from_array(apply_orientation(pixels, exif_orientation))
    return EncodedImage(upright, with_upright_dimensions(metadata, image, exif_orientation, upright.size), kind, lossy)


def check_size(data: bytes, max_pixels: int | None) -> None:
    """See `EncodedImage.check_size`."""
    try:
        with open_header(io.BytesIO(data)) as image:
            size_limits.check_pixels(image, _required_memory(image, data), max_pixels)
    except (UnidentifiedImageError, *DECODE_ERRORS) as error:
        if is_out_of_memory(error):
            raise


def _required_memory(image: Image.Image, source: bytes) -> int:
    return memory_estimate.estimate(image, len(source), memory_estimate.bit_depth(image, source))


def _load(source: bytes, max_memory: int | None, max_pixels: int | None) -> Image.Image:
    image = open_header(io.BytesIO(source))
    needed = _required_memory(image, source)
    if max_memory is not None:
        memory_estimate.raise_if_too_large(image, needed, max_memory)
    size_limits.check_pixels(image, needed if max_memory is None else 0, max_pixels)
    size_limits.check_image(image, source)
    if image.format in ("JPEG", "MPO"):
        jpeg_scans.check(source)
    elif image.format == "TIFF":
        image.getexif()[ORIENTATION_TAG] = 1  # else Pillow applies the XMP's orientation
    elif image.format in ("AVIF", "HEIF"):
        bmff.check_complete(source)
    elif image.format == "JPEG2000":
        jpeg2000.check_complete(source)
        image.info.update(jpeg2000.embedded(source))
    if not is_decoded_here(image):
        load(image)
    return image


def _damage_message(error: Exception) -> str:
    return f"the file is damaged ({error}). Get another copy, or save it as PNG in a program that opens it."


def _unknown_format_message(data: bytes) -> str:
    if not data:
        return "the file is empty. Get another copy."
    kind = next((name for start, name in SIGNATURES.items() if data.startswith(start)), None) or bmff.image_kind(data)
    if kind in INPUT_FORMATS:
        return f"the {label(kind)} file is damaged or of a rare kind. Save it as an 8-bit or 16-bit PNG."
    other = other_kind(data) if kind is None else label(kind)
    problem = "the file's format is unknown" if other is None else f"the file is {other}, which is not supported"
    return f"{problem}. Supported formats: {', '.join(map(label, INPUT_FORMATS))}."


def pop_tiff_orientation(data: bytearray) -> int | None:
    """Set a TIFF's orientation tag to 1 in place and return its old value. Decoders differ in whether they apply it."""
    header = parse_tiff_header(data)
    if header is None:
        return None
    found: int | None = None
    for place in iter_entries(data, header, header.first):
        if place.tag != ORIENTATION_TAG:
            continue
        if found is None and place.kind in INTEGER_FORMATS:
            (found,) = struct.unpack_from(header.order + INTEGER_FORMATS[place.kind], data, place.value_at)
        entry = "HQH" if header.big else "HLH"  # type SHORT, one value, which is 1
        struct.pack_into(header.order + entry, data, place.at + 2, 3, 1, 1)
    return found


def _webp_is_lossless(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        at += 8 + length + length % 2
    return False


def encode(encoded: EncodedImage, format_name: str, quality: int | None = None) -> bytes:
    """Return the file's bytes.

    `format_name` is Pillow's (`PNG`, `JPEG`, `WEBP`, `TIFF`, `BMP`). `quality` (1 to 100) applies to JPEG and WebP.
    Without it, JPEG uses 95, and WebP is lossless unless the input was lossy WebP. JPEG is written with full color
    resolution (4:4:4).
    Raises `OutputError` if the format cannot hold the image: alpha in JPEG and BMP, too many pixels per side in JPEG and
    WebP. Metadata that the format cannot hold is dropped with a warning. The caller reports `Metadata.dropped`, which no
    format keeps. Thread-safe."""
    image = encoded.image
    check_format(format_name, image)
    if image.pixels.dtype not in MAX_VALUES or (image.pixels.dtype != np.uint8 and format_name not in ("PNG", "TIFF")):
        image = to_8bit(image)
    metadata = drop_gray_profile(encoded.metadata, color_channels(image, format_name))
    warn_about_losses(metadata, format_name)
    if format_name != "JPEG" and metadata.xmp:
        metadata = replace(metadata, xmp=without_extension(metadata.xmp))
    metadata = drop_oversized(metadata, format_name)
    if format_name == "TIFF":
        return encode_tiff(image, metadata)
    if format_name == "PNG" and image.pixels.dtype == np.uint16:
        return encode_png16(image, metadata)
    out = io.BytesIO()
    to_pil(image).save(out, format_name, **_quality(encoded, format_name, quality), **save_arguments(metadata, format_name))
    complete = {"PNG": insert_png_color, "JPEG": insert_jpeg_segments}.get(format_name)
    return complete(out.getvalue(), metadata) if complete else out.getvalue()


def encode_with_notes(encoded: EncodedImage, format_name: str, quality: int | None = None) -> tuple[bytes, tuple[str, ...]]:
    """Do the same as `encode`, and return also notes on the metadata that the file does not keep, instead of warnings."""
    with collect_warnings() as lost:
        data = encode(encoded, format_name, quality)
    return data, (*lost, *encoded.dropped_note)


def encode_array(pixels: Pixels, format_name: str, icc: bytes | None = None, quality: int | None = None) -> bytes:
    """Return the bytes of a file with these pixels (see `image.from_array`) and this color profile. WebP is lossy."""
    return encode(EncodedImage(from_array(pixels), Metadata(icc=icc), format_name, lossy=True), format_name, quality)


def check_format(format_name: str, image: ImageData, size: tuple[int, int] | None = None) -> None:
    """Raise `OutputError` if the format cannot hold the image, or one like it with the given (width, height)."""
    if format_name in OPAQUE_FORMATS and image.alpha is not None:
        raise OutputError(alpha_message(format_name))
    size_limits.check_dimensions(format_name, size or image.size)


def alpha_message(format_name: str) -> str:
    return f"{format_name} cannot hold an alpha channel. Choose the format png, webp or tiff for the output."


def _quality(encoded: EncodedImage, format_name: str, quality: int | None) -> dict[str, Any]:
    if format_name == "JPEG":
        return {"quality": quality or JPEG_QUALITY, "subsampling": 0}
    if format_name == "WEBP":
        lossy = {"quality": quality or JPEG_QUALITY, "method": 4}
        return lossy if quality or (encoded.format == "WEBP" and encoded.lossy) else {"lossless": True, "exact": True}
    return {}

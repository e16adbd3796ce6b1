"""Image files: PNG, JPEG, WebP, TIFF and BMP of 8 and 16 bits, read upright and encoded."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ..errors import ImageTooLarge, InputError, OutOfMemory, OutputError, is_out_of_memory, oom_context
from . import jpeg_scans, memory_estimate, png_integrity, tiff_integrity
from .dropped_metadata import dropped_fields, dropped_note
from .encoders import color_channels, encode_png16, encode_tiff, to_8bit
from .image import (
    DECODE_ERRORS,
    MAX_VALUES,
    ORIENTATION_TAG,
    ImageData,
    Pixels,
    apply_orientation,
    from_array,
    pil_to_array,
    to_pil,
)
from .metadata import (
    Metadata,
    drop_gray_profile,
    drop_oversized,
    insert_jpeg_segments,
    insert_png_color,
    oversized_message,
    read_metadata,
    read_orientation,
    save_arguments,
    strip_to_pixels,
    warn_about_losses,
)
from .open_file import open_image
from .tiff import INTEGER_FORMATS, iter_entries, parse_tiff_header

log = logging.getLogger(__name__)

MAX_PIXELS = 178_956_970  # Pillow's own limit for an error, applied here whatever the host has set it to
MAX_SIDE = 1 << 20  # pixels: Pillow's time for raw rows grows with their square, a minute for 16 million
RLE_COMPRESSIONS, MAX_RLE_PIXELS = (
    (1, 2),
    1 << 24,
)  # BMP's RLE8 and RLE4, which Pillow unpacks in Python: 138 bytes can take a minute
JPEG_QUALITY = 95
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
SUFFIXES = {
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".bmp": "BMP",
}
MAX_FORMAT_SIDE = {"JPEG": 65500, "WEBP": 16383}  # longest side, of libjpeg and of the format
SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WebP", b"II": "TIFF", b"MM": "TIFF", b"BM": "BMP"}


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image and what its file carried."""

    image: ImageData
    metadata: Metadata
    format: str
    """PNG, JPEG, WEBP, TIFF or BMP."""
    lossy: bool
    """Whether the file's compression loses (JPEG, most WebP)."""
    data: bytes = b""
    """The file as it was read, if it was one."""

    @classmethod
    def from_bytes(cls, data: bytes, max_pixels: int = MAX_PIXELS) -> EncodedImage:
        """A file's bytes decoded and turned upright. Raises `ImageTooLarge` before that, by its header, and `InputError`."""
        with oom_context("reading the image"):
            return decode(data, max_pixels=max_pixels)

    @staticmethod
    def check_size(data: bytes, max_pixels: int = MAX_PIXELS) -> None:
        """Raises `ImageTooLarge` if the header of a file's bytes claims more pixels. Accepts bytes that are no image."""
        check_size(data, max_pixels)

    def to_bytes(self, format_name: str) -> bytes:
        """A file of that format, with the metadata that it can hold; see `encode`."""
        with oom_context("writing the image"):
            return encode(self, format_name)

    @property
    def dropped_note(self) -> tuple[str, ...]:
        """What is to be said about a new file of it: what that is without."""
        return dropped_note(self.metadata)


def read(path: Path, max_memory: int | None = None) -> EncodedImage:
    """Reads one image, turned upright.

    Raises `InputError` if it is missing, no regular file, broken, too large or of several pages, and `OutOfMemory` before
    anything is decoded if it takes more than `max_memory` bytes to read, restore and write (see `required_memory`)."""
    with open_image(path) as (file, _):
        data = file.read()
    try:
        return replace(decode(data, max_memory), data=data)
    except (InputError, OutOfMemory) as error:
        raise type(error)(f"{path}: {error}") from error


def required_memory(path: Path) -> int:
    """Memory to read, restore and write the image, estimated from its header: more than was measured, for every format.

    Of what is no image, little more than its length: reading says what is wrong. Raises `InputError` as `read` does."""
    with open_image(path) as (file, size):
        return required_memory_of_file(file, size)


def required_memory_of_file(file: BinaryIO, size: int) -> int:
    """As `required_memory`, of an open file of so many bytes."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are said when it is read
        try:
            start = file.read(memory_estimate.HEADER_BYTES)
            with Image.open(file, formats=FORMATS) as image:
                return memory_estimate.estimate(image, size, memory_estimate.bit_depth(image, start))
        except (UnidentifiedImageError, Image.DecompressionBombError, *DECODE_ERRORS):
            return memory_estimate.FILE_COPIES * size


def decode(data: bytes, max_memory: int | None = None, max_pixels: int = MAX_PIXELS) -> EncodedImage:
    """As `read`, from a file's bytes."""
    source, exif_orientation = data, None
    Image.init()  # a host may have loaded only some of Pillow's formats
    try:
        if parse_tiff_header(data) is not None:
            exif_orientation = pop_tiff_orientation(buffer := bytearray(data))
            source = bytes(buffer)
            del buffer
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            image = _load(source, max_memory, max_pixels)
        exif_orientation = read_orientation(image) if exif_orientation is None else exif_orientation
        metadata = replace(read_metadata(image, source), dropped=dropped_fields(image, source))
        pixels = _decode_pixels(image, source)
        if image.format == "TIFF":
            tiff_integrity.check(image, source, pixels)
        elif image.format == "PNG":
            png_integrity.check(source, pixels)
    except UnidentifiedImageError as error:
        raise InputError(_unknown_format_message(source)) from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"the image is too large: {error}") from error
    except DECODE_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise InputError(oversized_message(source, error) or _damage_message(error)) from error
    # While this decodes, another thread may be in the network: what is said there is recorded here, too.
    own = [warning for warning in caught if Path(warning.filename).parent.name in ("PIL", Path(__file__).parent.name)]
    for text in dict.fromkeys(str(warning.message) for warning in own):
        log.warning("The file is not quite as it should be: %s", text)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    lossy = kind == "JPEG" or (kind == "WEBP" and not _webp_is_lossless(source))
    return EncodedImage(from_array(apply_orientation(pixels, exif_orientation)), metadata, kind, lossy)


def check_size(data: bytes, max_pixels: int) -> None:
    """See `EncodedImage.check_size`."""
    Image.init()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image, max_pixels)
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"the image is too large: {error}") from error
    except (UnidentifiedImageError, *DECODE_ERRORS) as error:
        if is_out_of_memory(error):
            raise


def _load(source: bytes, max_memory: int | None, max_pixels: int) -> Image.Image:
    image = Image.open(io.BytesIO(source), formats=FORMATS)
    _check_size(image, max_pixels)
    if max_memory is not None:
        memory_estimate.raise_if_too_large(
            image, memory_estimate.estimate(image, len(source), memory_estimate.bit_depth(image, source)), max_memory
        )
    if image.format in ("JPEG", "MPO"):
        jpeg_scans.check(source)
    if image.format == "TIFF":
        image.getexif()[ORIENTATION_TAG] = 1  # else Pillow turns it where XMP says so
    image.load()
    return image


def _damage_message(error: Exception) -> str:
    return f"the file is damaged ({error}). Get it anew, or save it again as PNG in a program that opens it."


def _unknown_format_message(data: bytes) -> str:
    kind = next((name for start, name in SIGNATURES.items() if data.startswith(start)), None)
    if kind is None:
        return "the file is not a PNG, JPEG, WebP, TIFF or BMP image."
    return f"it begins as a {kind} image, but is damaged or of a rare kind. Save it again as a PNG of 8 or 16 bits."


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageTooLarge(
            f"{image.width} x {image.height} pixels are too many: at most {max_pixels / 1e6:.0f} million are read."
        )


def _check_size(image: Image.Image, max_pixels: int) -> None:
    _check_pixels(image, max_pixels)
    longest = MAX_FORMAT_SIDE.get(str(image.format), MAX_SIDE)
    if max(image.size) > longest:
        raise ImageTooLarge(f"{image.width} x {image.height} pixels: a side of more than {longest} is not read.")
    runs = image.format == "BMP" and image.info.get("compression") in RLE_COMPRESSIONS
    if runs and image.width * image.height > MAX_RLE_PIXELS:
        raise InputError(f"a BMP in runs (RLE) of {image.width} x {image.height} pixels. Save it again as a PNG.")
    # An MPO is a phone's photograph with previews behind it; of anything else, the other pages would be lost.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"the file holds {getattr(image, 'n_frames', 1)} images. Save the one you want to a file of its own."
        )


def _decode_pixels(image: Image.Image, source: bytes) -> Pixels:
    """Pillow opens 16-bit color as 8-bit without a word, and 12-bit gray as if it were 16."""
    bits, tags = memory_estimate.bit_depth(image, source), getattr(image, "tag_v2", None)
    if image.format == "PNG":
        key = image.info.get("transparency")
        if bits in (2, 4) and isinstance(key, int) and image.mode == "L":
            image.info["transparency"] = key * 255 // (2**bits - 1)  # as Pillow does with the pixels
    if bits not in (1, 2, 4, 8, 16):
        raise InputError(f"it has {bits} bits per channel; 8 and 16 can be read. Save it again with one of these.")
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
        raise InputError(
            "this kind of 16-bit TIFF cannot be read. Save it again as RGB or grayscale, its channels interleaved."
        )
    if image.mode.startswith("I"):
        gray = pil_to_array(image)
        return 65535 - gray if kind == 0 else gray  # 0: white is zero
    rgb = _decode_with_opencv(source, image.size)
    premultiplied = tags.get(TiffImagePlugin.EXTRASAMPLES, (0,))[0] == 1
    return _unpremultiply(rgb) if premultiplied and rgb.shape[2] == 4 else rgb


def _unpremultiply(rgba: Pixels) -> Pixels:
    """Colors that were multiplied by alpha, as they were before."""
    alpha = rgba[..., 3:].astype(np.float64)
    rgb = np.rint(rgba[..., :3] * (65535 / np.maximum(alpha, 1))).clip(0, 65535)
    return np.dstack((rgb.astype(np.uint16), rgba[..., 3]))


def _decode_with_opencv(source: bytes, size: tuple[int, int]) -> Pixels:
    array = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:  # it does not say why: this raises `MemoryError` where that is the reason
        np.empty((2, size[1], size[0], 4), np.uint16)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] < 3:
        raise InputError("this kind of 16-bit file cannot be read, or it is damaged. Save it again as a 16-bit PNG.")
    return array[..., [2, 1, 0, 3][: array.shape[2]]]  # BGR(A) -> RGB(A)


def pop_tiff_orientation(data: bytearray) -> int | None:
    """Sets a TIFF's orientation tag to 1 in place and returns what it was: decoders differ in whether they apply it."""
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


def output_format(path: Path, fallback: str) -> str:
    """The format that a file name asks for; `fallback` where it has no image's suffix."""
    return SUFFIXES.get(path.suffix.lower(), fallback)


def encode(encoded: EncodedImage, format_name: str) -> bytes:
    """The file's bytes. JPEG at quality 95 and 4:4:4; WebP without loss unless it came from a lossy one.

    `format_name` is Pillow's (`PNG`, `JPEG`, `WEBP`, `TIFF`, `BMP`). Raises `OutputError` where the format cannot hold the
    image: alpha in JPEG and BMP, more pixels a side than JPEG and WebP know. Metadata that it cannot hold is left out
    with a warning; what no format gets, `Metadata.dropped`, is for the caller to say. Safe from several threads."""
    image = encoded.image
    if format_name in ("JPEG", "BMP") and image.alpha is not None:
        raise OutputError(f"{format_name} cannot hold an alpha channel. Choose a .png, .webp or .tiff name for the output.")
    check_dimensions(format_name, image.size)
    if image.pixels.dtype not in MAX_VALUES or (image.pixels.dtype != np.uint8 and format_name not in ("PNG", "TIFF")):
        image = to_8bit(image)
    metadata = drop_gray_profile(encoded.metadata, color_channels(image, format_name))
    warn_about_losses(metadata, format_name)
    metadata = drop_oversized(metadata, format_name)
    if format_name == "TIFF":
        return encode_tiff(image, metadata)
    if format_name == "PNG" and image.pixels.dtype == np.uint16:
        return encode_png16(image, metadata)
    out = io.BytesIO()
    to_pil(image).save(out, format_name, **_quality(encoded, format_name), **save_arguments(metadata, format_name))
    complete = {"PNG": insert_png_color, "JPEG": insert_jpeg_segments}.get(format_name)
    return complete(out.getvalue(), metadata) if complete else out.getvalue()


def check_dimensions(format_name: str, size: tuple[int, int]) -> None:
    """Raises `OutputError` where the format cannot hold an image of that width and height."""
    if format_name in MAX_FORMAT_SIDE and max(size) > MAX_FORMAT_SIDE[format_name]:
        raise OutputError(
            f"{format_name} holds at most {MAX_FORMAT_SIDE[format_name]} pixels a side, not {size[0]} x {size[1]}."
            " Choose a .png or .tiff name for the output."
        )


def _quality(encoded: EncodedImage, format_name: str) -> dict[str, Any]:
    if format_name == "JPEG":
        return {"quality": JPEG_QUALITY, "subsampling": 0}
    if format_name == "WEBP":
        lossy = {"quality": JPEG_QUALITY, "method": 4}
        return lossy if encoded.format == "WEBP" and encoded.lossy else {"lossless": True, "exact": True}
    return {}

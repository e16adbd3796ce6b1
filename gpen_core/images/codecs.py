"""Picture files: PNG, JPEG, WebP, TIFF and BMP of 8 and 16 bits, read upright and encoded."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ..errors import InputError, OutOfMemory, OutputError, TooLarge, is_out_of_memory, memory_for
from . import jpeg_scans, memory_estimate, png_integrity, tiff_integrity
from .dropped_metadata import left_out, unkept
from .image import BROKEN, ORIENTATION, PEAKS, Picture, Pixels, from_array, pil_to_array, to_pil, upright
from .metadata import (
    Metadata,
    collect,
    fitting,
    for_colours,
    into_png,
    only_pixels,
    orientation,
    save_arguments,
    tiff_entries,
    too_long,
    warn_of_losses,
    with_jpeg_segments,
    with_png_colour,
)
from .open_file import open_image
from .png import PNG_SIGNATURE, png_chunk
from .tiff import WHOLE_NUMBERS, TiffField, directory, tiff_header, write_directory

log = logging.getLogger(__name__)

MAX_PIXELS = 178_956_970  # Pillow's own limit for an error, applied here whatever the host has set it to
LONGEST_SIDE = 1 << 20  # pixels: Pillow's time for raw rows grows with their square, a minute for 16 million
RUNS, MOST_IN_RUNS = (1, 2), 1 << 24  # BMP's RLE8 and RLE4, which Pillow unpacks in Python: 138 bytes can take a minute
JPEG_QUALITY = 95
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
SUFFIXES = {
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".bmp": "BMP",
}
LIMITS = {"JPEG": 65500, "WEBP": 16383}  # longest side, of libjpeg and of the format
STARTS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WebP", b"II": "TIFF", b"MM": "TIFF", b"BM": "BMP"}


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture and what its file carried."""

    picture: Picture
    metadata: Metadata
    format: str
    """PNG, JPEG, WEBP, TIFF or BMP."""
    lossy: bool
    """Whether the file's compression loses (JPEG, most WebP)."""
    data: bytes = b""
    """The file as it was read, if it was one."""

    @classmethod
    def from_bytes(cls, data: bytes, max_pixels: int = MAX_PIXELS) -> Photo:
        """A file's bytes decoded and turned upright. Raises `TooLarge` before that, by its header, and `InputError`."""
        with memory_for("reading the picture"):
            return decode(data, max_pixels=max_pixels)

    @staticmethod
    def check_size(data: bytes, max_pixels: int = MAX_PIXELS) -> None:
        """Raises `TooLarge` if the header of a file's bytes claims more pixels. Accepts bytes that are no picture."""
        check_size(data, max_pixels)

    def to_bytes(self, format_name: str) -> bytes:
        """A file of that format, with the metadata that it can hold; see `encode`."""
        with memory_for("writing the picture"):
            return encode(self, format_name)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is to be said about a new file of it: what that is without."""
        return left_out(self.metadata)


def read(path: Path, max_memory: int | None = None) -> Photo:
    """Reads one picture, turned upright.

    Raises `InputError` if it is missing, no regular file, broken, too large or of several pages, and `OutOfMemory` before
    anything is decoded if it takes more than `max_memory` bytes to read, restore and write (see `needed_bytes`)."""
    with open_image(path) as (file, _):
        data = file.read()
    try:
        return replace(decode(data, max_memory), data=data)
    except (InputError, OutOfMemory) as error:
        raise type(error)(f"{path}: {error}") from error


def needed_bytes(path: Path) -> int:
    """Memory to read, restore and write the picture, estimated from its header: more than was measured, for every format.

    Of what is no picture, little more than its length: reading says what is wrong. Raises `InputError` as `read` does."""
    with open_image(path) as (file, size):
        return needed_by(file, size)


def needed_by(file: BinaryIO, size: int) -> int:
    """As `needed_bytes`, of an open file of so many bytes."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are said when it is read
        try:
            start = file.read(memory_estimate.START)
            with Image.open(file, formats=FORMATS) as image:
                return memory_estimate.estimate(image, size, memory_estimate.bits_of(image, start))
        except (UnidentifiedImageError, Image.DecompressionBombError, *BROKEN):
            return memory_estimate.FILES * size


def decode(data: bytes, max_memory: int | None = None, max_pixels: int = MAX_PIXELS) -> Photo:
    """As `read`, from a file's bytes."""
    source, turn = data, None
    Image.init()  # a host may have loaded only some of Pillow's formats
    try:
        if tiff_header(data) is not None:
            turn = take_tiff_orientation(buffer := bytearray(data))
            source = bytes(buffer)
            del buffer
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            image = _load(source, max_memory, max_pixels)
        turn = orientation(image) if turn is None else turn
        metadata = replace(collect(image, source), dropped=unkept(image, source))
        pixels = _pixels(image, source)
        if image.format == "TIFF":
            tiff_integrity.check(image, source, pixels)
        elif image.format == "PNG":
            png_integrity.check(source, pixels)
    except UnidentifiedImageError as error:
        raise InputError(_not_a_picture(source)) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"the picture is too large: {error}") from error
    except BROKEN as error:
        if is_out_of_memory(error):
            raise
        raise InputError(too_long(source, error) or _damaged(error)) from error
    # While this decodes, another thread may be in the network: what is said there is recorded here, too.
    own = [warning for warning in said if Path(warning.filename).parent.name in ("PIL", Path(__file__).parent.name)]
    for text in dict.fromkeys(str(warning.message) for warning in own):
        log.warning("The file is not quite as it should be: %s", text)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    lossy = kind == "JPEG" or (kind == "WEBP" and not _webp_is_lossless(source))
    return Photo(from_array(upright(pixels, turn)), metadata, kind, lossy)


def check_size(data: bytes, max_pixels: int) -> None:
    """See `Photo.check_size`."""
    Image.init()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image, max_pixels)
    except Image.DecompressionBombError as error:
        raise TooLarge(f"the picture is too large: {error}") from error
    except (UnidentifiedImageError, *BROKEN) as error:
        if is_out_of_memory(error):
            raise


def _load(source: bytes, max_memory: int | None, max_pixels: int) -> Image.Image:
    image = Image.open(io.BytesIO(source), formats=FORMATS)
    _check_size(image, max_pixels)
    if max_memory is not None:
        memory_estimate.refuse(
            image, memory_estimate.estimate(image, len(source), memory_estimate.bits_of(image, source)), max_memory
        )
    if image.format in ("JPEG", "MPO"):
        jpeg_scans.check(source)
    if image.format == "TIFF":
        image.getexif()[ORIENTATION] = 1  # else Pillow turns it where XMP says so
    image.load()
    return image


def _damaged(error: Exception) -> str:
    return f"the file is damaged ({error}). Get it anew, or save it again as PNG in a program that opens it."


def _not_a_picture(data: bytes) -> str:
    kind = next((name for start, name in STARTS.items() if data.startswith(start)), None)
    if kind is None:
        return "the file is not a PNG, JPEG, WebP, TIFF or BMP picture."
    return f"it begins as a {kind} picture, but is damaged or of a rare kind. Save it again as a PNG of 8 or 16 bits."


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise TooLarge(
            f"{image.width} x {image.height} pixels are too many: at most {max_pixels / 1e6:.0f} million are read."
        )


def _check_size(image: Image.Image, max_pixels: int) -> None:
    _check_pixels(image, max_pixels)
    longest = LIMITS.get(str(image.format), LONGEST_SIDE)
    if max(image.size) > longest:
        raise TooLarge(f"{image.width} x {image.height} pixels: a side of more than {longest} is not read.")
    runs = image.format == "BMP" and image.info.get("compression") in RUNS
    if runs and image.width * image.height > MOST_IN_RUNS:
        raise InputError(f"a BMP in runs (RLE) of {image.width} x {image.height} pixels. Save it again as a PNG.")
    # An MPO is a phone's photograph with previews behind it; of anything else, the other pages would be lost.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"the file holds {getattr(image, 'n_frames', 1)} pictures. Save the one you want to a file of its own."
        )


def _pixels(image: Image.Image, source: bytes) -> Pixels:
    """Pillow opens 16-bit colour as 8-bit without a word, and 12-bit grey as if it were 16."""
    bits, tags = memory_estimate.bits_of(image, source), getattr(image, "tag_v2", None)
    if image.format == "PNG":
        key = image.info.get("transparency")
        if bits in (2, 4) and isinstance(key, int) and image.mode == "L":
            image.info["transparency"] = key * 255 // (2**bits - 1)  # as Pillow does with the pixels
    if bits not in (1, 2, 4, 8, 16):
        raise InputError(f"it has {bits} bits per channel; 8 and 16 can be read. Save it again with one of these.")
    if bits < 16:
        return pil_to_array(image)
    return _sixteen_bits_tiff(image, tags, source) if tags is not None else _sixteen_bits_png(image, source)


def _sixteen_bits_png(image: Image.Image, source: bytes) -> Pixels:
    if source[25] in (2, 6):  # IHDR: RGB, RGBA
        return _opencv_rgb(only_pixels(source, image.size), image.size)
    if source[25] == 4:
        return _opencv_rgb(only_pixels(source, image.size), image.size)[..., [0, 3]]  # grey and alpha
    grey, key = pil_to_array(image), image.info.get("transparency")
    return np.dstack((grey, np.where(grey == key, 0, 65535).astype(np.uint16))) if isinstance(key, int) else grey


def _sixteen_bits_tiff(image: Image.Image, tags: Any, source: bytes) -> Pixels:
    kind, planes = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION), tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    numbers = tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)
    apart = planes > 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1
    if kind not in (0, 1, 2) or apart or any(n != 1 for n in np.atleast_1d(numbers)):
        raise InputError("this kind of 16-bit TIFF cannot be read. Save it again as RGB or grey, its channels interleaved.")
    if image.mode.startswith("I"):
        grey = pil_to_array(image)
        return 65535 - grey if kind == 0 else grey  # 0: white is zero
    rgb = _opencv_rgb(source, image.size)
    premultiplied = tags.get(TiffImagePlugin.EXTRASAMPLES, (0,))[0] == 1
    return _unassociated(rgb) if premultiplied and rgb.shape[2] == 4 else rgb


def _unassociated(rgba: Pixels) -> Pixels:
    """Colours that were multiplied by alpha, as they were before."""
    alpha = rgba[..., 3:].astype(np.float64)
    rgb = np.rint(rgba[..., :3] * (65535 / np.maximum(alpha, 1))).clip(0, 65535)
    return np.dstack((rgb.astype(np.uint16), rgba[..., 3]))


def _opencv_rgb(source: bytes, size: tuple[int, int]) -> Pixels:
    array = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:  # it does not say why: this raises `MemoryError` where that is the reason
        np.empty((2, size[1], size[0], 4), np.uint16)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] < 3:
        raise InputError("this kind of 16-bit file cannot be read, or it is damaged. Save it again as a 16-bit PNG.")
    return array[..., [2, 1, 0, 3][: array.shape[2]]]  # BGR(A) -> RGB(A)


def take_tiff_orientation(data: bytearray) -> int | None:
    """Sets a TIFF's orientation tag to 1 in place and returns what it was: decoders differ in whether they apply it."""
    header = tiff_header(data)
    if header is None:
        return None
    found: int | None = None
    for place in directory(data, header, header.first):
        if place.tag != ORIENTATION:
            continue
        if found is None and place.kind in WHOLE_NUMBERS:
            (found,) = struct.unpack_from(header.order + WHOLE_NUMBERS[place.kind], data, place.value_at)
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


def format_of(path: Path, fallback: str) -> str:
    """The format that a file name asks for; `fallback` where it has no picture's suffix."""
    return SUFFIXES.get(path.suffix.lower(), fallback)


def encode(photo: Photo, format_name: str) -> bytes:
    """The file's bytes. JPEG at quality 95 and 4:4:4; WebP without loss unless it came from a lossy one.

    `format_name` is Pillow's (`PNG`, `JPEG`, `WEBP`, `TIFF`, `BMP`). Raises `OutputError` where the format cannot hold the
    picture: alpha in JPEG and BMP, more pixels a side than JPEG and WebP know. Metadata that it cannot hold is left out
    with a warning; what no format gets, `Metadata.dropped`, is for the caller to say. Safe from several threads."""
    picture = photo.picture
    if format_name in ("JPEG", "BMP") and picture.alpha is not None:
        raise OutputError(f"{format_name} cannot hold an alpha channel. Choose a .png, .webp or .tiff name for the output.")
    check_sides(format_name, picture.size)
    if picture.pixels.dtype not in PEAKS or (picture.pixels.dtype != np.uint8 and format_name not in ("PNG", "TIFF")):
        picture = _eight_bits(picture)
    metadata = for_colours(photo.metadata, _colours(picture, format_name))
    warn_of_losses(metadata, format_name)
    metadata = fitting(metadata, format_name)
    if format_name == "TIFF":
        return _encode_tiff(picture, metadata)
    if format_name == "PNG" and picture.pixels.dtype == np.uint16:
        return _encode_png_sixteen(picture, metadata)
    out = io.BytesIO()
    to_pil(picture).save(out, format_name, **_quality(photo, format_name), **save_arguments(metadata, format_name))
    complete = {"PNG": with_png_colour, "JPEG": with_jpeg_segments}.get(format_name)
    return complete(out.getvalue(), metadata) if complete else out.getvalue()


def check_sides(format_name: str, size: tuple[int, int]) -> None:
    """Raises `OutputError` where the format cannot hold a picture of that width and height."""
    if format_name in LIMITS and max(size) > LIMITS[format_name]:
        raise OutputError(
            f"{format_name} holds at most {LIMITS[format_name]} pixels a side, not {size[0]} x {size[1]}."
            " Choose a .png or .tiff name for the output."
        )


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
    alpha = None if picture.alpha is None else np.rint(picture.alpha * factor).clip(0, 255).astype(np.uint8)
    return Picture(np.rint(picture.pixels * factor).clip(0, 255).astype(np.uint8), alpha)


def _colours(picture: Picture, format_name: str) -> int:
    """1 or 3 in the file: WebP has no grey, and of TIFFs with 16-bit grey and alpha few programs read any, Pillow none."""
    rare = format_name == "TIFF" and picture.pixels.dtype == np.uint16 and picture.alpha is not None
    return 3 if rare or format_name == "WEBP" else int(picture.pixels.shape[2])


def _channels(picture: Picture, format_name: str) -> Pixels:
    """[H, W, 1 to 4]."""
    times = _colours(picture, format_name) // picture.pixels.shape[2]
    planes = [picture.pixels] * times + ([] if picture.alpha is None else [picture.alpha])
    return planes[0] if len(planes) == 1 else np.dstack(planes)


def _encode_png_sixteen(picture: Picture, metadata: Metadata) -> bytes:
    array = _channels(picture, "PNG")
    if array.shape[2] == 2:
        return into_png(_png_grey_alpha(array), metadata)
    order = [0] if array.shape[2] == 1 else [2, 1, 0, 3][: array.shape[2]]
    done, png = cv2.imencode(".png", np.ascontiguousarray(array[..., order]))  # RGB(A) -> BGR(A)
    if not done:
        raise OutputError("OpenCV could not encode the picture as a 16-bit PNG.")
    return into_png(png.tobytes(), metadata)


def _png_grey_alpha(array: Pixels) -> bytes:
    """16-bit grey with alpha, which neither Pillow nor OpenCV writes; each row holds differences to the one above."""
    height, width = array.shape[:2]
    rows = array.astype(">u2").view(np.uint8).reshape(height, -1)
    rows = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))  # wraps around
    rows = np.insert(rows, 0, 2, axis=1)  # PNG 1.2, 6.4: filter type Up
    header = struct.pack(">LLBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")
    return PNG_SIGNATURE + b"".join(png_chunk(kind, payload) for kind, payload in chunks)


def _encode_tiff(picture: Picture, metadata: Metadata) -> bytes:
    """A TIFF of one deflated strip, differences between neighbours: Pillow has no mode for 16-bit colour, and OpenCV
    writes no tags. In the EXIF block's byte order, which some of its values depend on."""
    array = _channels(picture, "TIFF")
    height, width, channels = array.shape
    differences = array.copy()
    differences[:, 1:] -= array[:, :-1]  # wraps around, as TIFF 6.0 section 14 has it
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
    if picture.alpha is not None:
        numbers[TiffImagePlugin.EXTRASAMPLES] = (2,)  # unassociated alpha
    for tag, values in numbers.items():
        entries[tag] = _tiff_numbers(tag, values, order)
    start = len(write_directory(entries, order, 8)) + 8
    entries[TiffImagePlugin.STRIPOFFSETS] = _tiff_numbers(TiffImagePlugin.STRIPOFFSETS, (start,), order)
    header = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(order + "L", 8)
    return header + write_directory(entries, order, 8) + strip


def _tiff_numbers(tag: int, values: tuple[int, ...], order: str) -> TiffField:
    """As SHORT where all but sizes and positions must be, else as LONG."""
    large = tag in (256, 257, 273, 278, 279)
    return TiffField(4 if large else 3, len(values), struct.pack(f"{order}{len(values)}{'L' if large else 'H'}", *values))

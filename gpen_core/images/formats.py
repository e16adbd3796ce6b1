"""Supported image formats: their suffixes, signatures and readers.

Files are opened by their content, not by their name, and only with the readers listed here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import PurePath
from typing import BinaryIO

import PIL
from PIL import Image, UnidentifiedImageError, features

from ..errors import ImageTooLarge, InputError, OutputError, is_out_of_memory
from ..optional_packages import install_command, parse_version
from . import bmff

OUTPUT_SUFFIXES = {
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".bmp": "BMP",
}
INPUT_SUFFIXES = {
    **OUTPUT_SUFFIXES,
    ".gif": "GIF",
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"), "JPEG2000"),
    ".avif": "AVIF",
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
}
"""Format by file suffix, whether or not this installation can read it (see `missing_reader`)."""
OUTPUT_FORMATS = tuple(dict.fromkeys(OUTPUT_SUFFIXES.values()))
INPUT_FORMATS = tuple(dict.fromkeys(INPUT_SUFFIXES.values()))
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats whose animations are videos."""
LABELS = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "HEIF": "HEIC"}
"""Display names that differ from the format's name."""
FALLBACK_FORMAT = "PNG"
"""Lossless output format for input formats that cannot be written."""
PREFIX_BYTES = 16  # Pillow's readers recognize a file by these
OPEN_ERRORS = (SyntaxError, IndexError, TypeError, struct.error)
"""What Pillow's readers raise for a file of another format."""
OTHER_KINDS = {  # by the first bytes
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"v/1\x01": "OpenEXR",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
}


def label(format_name: str) -> str:
    return LABELS.get(format_name, format_name)


def output_format(path: PurePath, fallback: str) -> str:
    """Return the format of a file name by its suffix. Without a writable one: `fallback`, or PNG if that is read-only."""
    return OUTPUT_SUFFIXES.get(path.suffix.lower(), fallback if fallback in OUTPUT_FORMATS else FALLBACK_FORMAT)


def check_output_name(path: PurePath) -> None:
    """Raise `OutputError` for a name with a suffix of another kind of file. A name without a suffix is allowed."""
    if path.suffix and path.suffix.lower() not in OUTPUT_SUFFIXES:
        known = ", ".join(OUTPUT_SUFFIXES)
        raise OutputError(f"{path}: an image of type {path.suffix} cannot be written. Choose one of {known}.")


@lru_cache(maxsize=len(INPUT_FORMATS))
def missing_reader(format_name: str) -> str | None:
    """Return how to make this installation read the format (one of `INPUT_FORMATS`); None if it can."""
    if format_name == "HEIF":
        return None if importlib.util.find_spec("pillow_heif") else f"to read them: {install_command(_heif_package())}"
    feature = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}.get(format_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about features that it does not know
        if feature is None or features.check(feature):
            return None
    wanted = "Pillow 11.3 or newer" if format_name == "AVIF" else f"a Pillow that was built with {label(format_name)}"
    return f"to read them: {wanted}; this is Pillow {PIL.__version__}"


def _heif_package() -> str:
    """Return a requirement that keeps the host's Pillow: newer releases of pillow-heif would upgrade it."""
    return "pillow-heif" if parse_version(PIL.__version__) >= (11, 1) else '"pillow-heif<0.17"'


def open_header(file: BinaryIO) -> Image.Image:
    """Open the image in `file` with its size and mode, without decoding it.

    Like `Image.open`, but without Pillow's pixel limit, which a host may have changed; ours is in `size_limits`. Raises
    what Pillow raises, `UnidentifiedImageError` if no reader accepts the file, and `InputError` if its reader is not
    installed."""
    Image.init()  # a host may have loaded only some of Pillow's formats
    prefix = file.read(bmff.FILE_TYPE_BYTES)
    kind = bmff.image_kind(prefix) or next((one for one in INPUT_FORMATS if _accepts(one, prefix[:PREFIX_BYTES])), None)
    if kind not in INPUT_FORMATS:
        raise UnidentifiedImageError("no reader accepts it")
    missing = missing_reader(kind)
    if missing is not None:
        raise InputError(f"{label(kind)} files cannot be read here. {missing[:1].upper()}{missing[1:]}.")
    file.seek(0)
    with decoder_errors():
        try:
            return _read_header(kind, file)
        except OPEN_ERRORS as error:
            raise UnidentifiedImageError(str(error)) from error


def load(image: Image.Image) -> None:
    """Decode the pixels of an image opened with `open_header`. Raises Pillow's ordinary errors."""
    with decoder_errors():
        image.load()


def is_animated(image: Image.Image) -> bool:
    """Return whether there is a second frame, which Pillow may have to search for. Raises as `load`."""
    with decoder_errors():
        return bool(getattr(image, "is_animated", False))


@contextlib.contextmanager
def decoder_errors() -> Iterator[None]:
    """Convert errors that only the readers of GIF, AVIF and HEIC raise on broken files to `ValueError`."""
    try:
        yield
    except Image.DecompressionBombError as error:  # a GIF frame larger than its screen
        raise ImageTooLarge(f"the image is too large: {error}") from error
    except (RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(str(error)) from error


def _accepts(format_name: str, prefix: bytes) -> bool:
    if format_name not in Image.OPEN or format_name == "AVIF":  # Pillow's reader also accepts HEIC
        return False
    accept = Image.OPEN[format_name][1]
    accepted = True if accept is None else accept(prefix)
    return bool(accepted) and not isinstance(accepted, str)  # a text is the reason why not


def _read_header(format_name: str, file: BinaryIO) -> Image.Image:
    if format_name == "HEIF":
        import pillow_heif  # not registered with Pillow, which is the host's

        opener: Callable[[BinaryIO], Image.Image] = pillow_heif.HeifImageFile
        return opener(file)
    return Image.OPEN[format_name][0](file, "")


def other_kind(data: bytes) -> str | None:
    """Return the name of a known unsupported format from the first bytes, or None."""
    if data[4:8] == b"ftyp":
        return "MP4 or MOV"
    return next((name for start, name in OTHER_KINDS.items() if data.startswith(start)), None)

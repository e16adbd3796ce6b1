"""Which image formats are read and written, by which names and first bytes they are known, and what reads them.

A file is opened by what it holds, not by its name, and by the readers named here alone.
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

from ..errors import ImageTooLarge, InputError, is_out_of_memory
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
"""The format that a name promises, whether or not this installation reads it (see `missing_reader`)."""
OUTPUT_FORMATS = tuple(dict.fromkeys(OUTPUT_SUFFIXES.values()))
INPUT_FORMATS = tuple(dict.fromkeys(INPUT_SUFFIXES.values()))
LABELS = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "HEIF": "HEIC"}
"""What people call a format, where that is not its name here."""
FALLBACK_FORMAT = "PNG"
"""What an image of a format that is not written becomes: it loses nothing."""
PREFIX_BYTES = 16  # that Pillow's readers know a file by
OPEN_ERRORS = (SyntaxError, IndexError, TypeError, struct.error)
"""What Pillow's readers raise where a file is none of theirs."""
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
    """The format that a file name asks for. Where it has no suffix of a written one: `fallback`, or PNG for a format that
    is only read."""
    return OUTPUT_SUFFIXES.get(path.suffix.lower(), fallback if fallback in OUTPUT_FORMATS else FALLBACK_FORMAT)


@lru_cache(maxsize=len(INPUT_FORMATS))
def missing_reader(format_name: str) -> str | None:
    """How to get this installation to read the format; None where it does. `format_name` is one of `INPUT_FORMATS`."""
    if format_name == "HEIF":
        return None if importlib.util.find_spec("pillow_heif") else f"to read them: {install_command(_heif_package())}"
    feature = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}.get(format_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a Pillow that has never heard of it says so
        if feature is None or features.check(feature):
            return None
    wanted = "Pillow 11.3 or newer" if format_name == "AVIF" else f"a Pillow that was built with {label(format_name)}"
    return f"to read them: {wanted}; this is Pillow {PIL.__version__}"


def _heif_package() -> str:
    """Newer releases would bring a newer Pillow along, and that is the host's."""
    return "pillow-heif" if parse_version(PIL.__version__) >= (11, 1) else '"pillow-heif<0.17"'


def readable_suffixes() -> tuple[str, ...]:
    """The suffixes of names whose format this installation reads."""
    return tuple(suffix for suffix, format_name in INPUT_SUFFIXES.items() if missing_reader(format_name) is None)


def open_header(file: BinaryIO, formats: tuple[str, ...] = INPUT_FORMATS) -> Image.Image:
    """The image in `file` with its size and mode, not decoded yet.

    As `Image.open`, but without Pillow's limit of pixels, which a host may have set to anything: `size_limits` has ours.
    Raises what Pillow raises, `UnidentifiedImageError` where no reader takes it, and `InputError` where the one that would
    is not installed."""
    Image.init()  # a host may have loaded only some of Pillow's formats
    prefix = file.read(bmff.FILE_TYPE_BYTES)
    kind = bmff.image_kind(prefix) or next((one for one in formats if _accepts(one, prefix[:PREFIX_BYTES])), None)
    if kind not in formats:
        raise UnidentifiedImageError("no reader knows it")
    missing = missing_reader(kind)
    if missing is not None:
        raise InputError(f"it is of a kind that is not read here: {label(kind)}. {missing[:1].upper()}{missing[1:]}.")
    file.seek(0)
    with decoder_errors():
        try:
            return _read_header(kind, file)
        except OPEN_ERRORS as error:
            raise UnidentifiedImageError(str(error)) from error


def load(image: Image.Image) -> None:
    """Decodes the pixels of an image that `open_header` has opened. Raises what Pillow raises of ordinary errors."""
    with decoder_errors():
        image.load()


def is_animated(image: Image.Image) -> bool:
    """Whether there is a second frame, which Pillow may have to look for. Raises as `load`."""
    with decoder_errors():
        return bool(getattr(image, "is_animated", False))


@contextlib.contextmanager
def decoder_errors() -> Iterator[None]:
    """What the readers of GIF, AVIF and HEIC raise on broken files and Pillow's others do not becomes a `ValueError`."""
    try:
        yield
    except Image.DecompressionBombError as error:  # of a GIF's frame that is larger than its screen
        raise ImageTooLarge(f"the image is too large: {error}") from error
    except (RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(str(error)) from error


def _accepts(format_name: str, prefix: bytes) -> bool:
    if format_name not in Image.OPEN or format_name == "AVIF":  # Pillow's takes HEIC for one
        return False
    accept = Image.OPEN[format_name][1]
    accepted = True if accept is None else accept(prefix)
    return bool(accepted) and not isinstance(accepted, str)  # a text says why it cannot


def _read_header(format_name: str, file: BinaryIO) -> Image.Image:
    if format_name == "HEIF":
        import pillow_heif  # not registered with Pillow, which is the host's

        opener: Callable[[BinaryIO], Image.Image] = pillow_heif.HeifImageFile
        return opener(file)
    return Image.OPEN[format_name][0](file, "")


def other_kind(data: bytes) -> str | None:
    """What a file is that holds no image of a kind that is read; None where its first bytes do not tell."""
    if data[4:8] == b"ftyp":
        return "MP4 or MOV"
    return next((name for start, name in OTHER_KINDS.items() if data.startswith(start)), None)

"""Metadata and bytes of an input file, kept to save the result."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from PIL import Image

from ..errors import InputError, OutputError
from ..files.atomic_write import write_bytes
from ..files.path_checks import AnyPath, local_path
from ..images import codecs, formats
from ..images.codecs import EncodedImage
from ..images.image import ImageData, pil_orientation, to_image_data
from ..images.metadata import Metadata, color_profile, read_metadata
from ..images.resized_metadata import with_upright_dimensions
from ..images.size_limits import NO_LIMITS, ReadLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SourceFile:
    """The contents of a file except its pixels. Empty for an array."""

    metadata: Metadata = field(default_factory=Metadata)
    format: str = "PNG"
    lossy: bool = False
    data: bytes = b""
    """The bytes of the file, if the image was read from one."""

    @classmethod
    def of(cls, encoded: EncodedImage) -> SourceFile:
        return cls(encoded.metadata, encoded.format, encoded.lossy, encoded.data)

    def __repr__(self) -> str:
        return f"SourceFile({self.format})"

    def save(self, path: AnyPath, image: ImageData, is_same: bool) -> None:
        """Write the image with this metadata, atomically. Raises `OutputError`.

        If `is_same` (the image did not change) and the format is the same, the original bytes are written."""
        target = local_path(path, OutputError)
        formats.check_output_name(target)
        format_name = formats.output_format(target, self.format)
        if is_same and self.data and format_name == self.format:
            write_bytes(target, self.data)
            return
        data, notes = codecs.encode_with_notes(EncodedImage(image, self.metadata, self.format, self.lossy), format_name)
        write_bytes(target, data)
        for note in notes:
            log.warning("%s: %s", target, note)


def load_encoded(image: object, limits: ReadLimits = NO_LIMITS) -> EncodedImage:
    """Load an image with its metadata.

    `image` is a path, the bytes of a file, a file opened in binary mode (or `io.BytesIO`), a PIL image, an array, an
    `ImageData` or an `EncodedImage`; see `images.image.to_image_data`. Files are checked as `codecs.read` does. Raises
    `InputError`, `ImageTooLarge` and `OutOfMemory`."""
    if isinstance(image, EncodedImage):
        return image
    if isinstance(image, (str, PathLike)):
        return codecs.read(local_path(image, InputError), limits.max_memory, limits.max_pixels)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _decode(bytes(image), limits)
    if isinstance(image, Image.Image):
        image_data = to_image_data(image)
        metadata = with_upright_dimensions(_pil_metadata(image), image, pil_orientation(image), image_data.size)
        return EncodedImage(image_data, metadata, image.format or "PNG", lossy=False)
    if callable(getattr(image, "read", None)):
        return _decode(_read_bytes(image), limits)
    if isinstance(image, (list, tuple)):
        raise InputError(f"Expected one image, got a {type(image).__name__}. For several images, use restore_batch.")
    expected = "a path, the bytes of a file, an open file, a PIL image or a numpy array"
    return EncodedImage(to_image_data(image, expected), Metadata(), "PNG", lossy=False)


def _read_bytes(file: Any) -> bytes:
    """Read the rest of an open file, and seek back if it can, so that the file can be given again.

    Raises `InputError` if it is closed, not open for reading or not binary."""
    try:
        is_seekable = hasattr(file, "seekable") and file.seekable()
        start = file.tell() if is_seekable else 0
        data = file.read()
        if is_seekable:
            file.seek(start)
    except UnicodeDecodeError:
        data = ""  # only a text file decodes
    except (OSError, ValueError) as error:
        raise InputError(f"The open file cannot be read: {error}.") from error
    if not isinstance(data, bytes):
        raise InputError(f"Expected a binary file, but reading it returned {type(data).__name__}. Open it in binary mode.")
    return data


def _decode(data: bytes, limits: ReadLimits) -> EncodedImage:
    return replace(codecs.decode(data, limits.max_memory, limits.max_pixels), data=data)


def _pil_metadata(image: Image.Image) -> Metadata:
    """Return the metadata of a PIL image. For a TIFF it is only the color profile, because its bytes are not available."""
    if image.format == "TIFF":
        return Metadata(icc=color_profile(image, b""))
    return read_metadata(image, b"")

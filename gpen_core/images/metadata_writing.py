"""Writing metadata into image files: what each format can hold, and the blocks that Pillow does not write."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image, PngImagePlugin

from .image_warnings import warn
from .jpeg_segments import MARKER_LIMIT, jpeg_segment
from .metadata import (
    EXIF_HEADER,
    ICC_TAG,
    MAX_PNG_PROFILE_BYTES,
    PNG_XMP,
    RESOLUTION_TAGS,
    STORAGE_TAGS,
    XMP_HEADER,
    XMP_TAG,
    Metadata,
)
from .png import header_chunks, insert_after_header
from .tiff import TiffField, TiffType, parse_tiff_header, read_directory

MAX_FIELD_BYTES = {  # bytes that readers and Pillow accept: an ICC profile has at most 255 markers (ICC.1:2010, B.4)
    "JPEG": {"exif": MARKER_LIMIT, "xmp": MARKER_LIMIT - len(XMP_HEADER), "comment": MARKER_LIMIT, "icc": 255 * 65519},
    "PNG": {"icc": MAX_PNG_PROFILE_BYTES, "xmp": 64 << 20},  # `MAX_TEXT_MEMORY` of Pillow's PngImagePlugin
}
FIELD_NAMES = {"exif": "EXIF block", "xmp": "XMP packet", "comment": "JPEG comment", "icc": "color profile"}
MAX_NAMED = 10  # PNG text keys in a message
UNKNOWN_DPI = (72.0, 72.0)  # written by Pillow and many others if the resolution is unknown
RESOLUTION_UNIT_TAG, INCH = 296, 2
SUPPORTED_FIELDS = {
    "PNG": ("exif", "icc", "xmp", "dpi", "text", "png_color"),
    "JPEG": ("exif", "icc", "xmp", "dpi", "comment", "jpeg_segments"),
    "WEBP": ("exif", "icc", "xmp"),
    "TIFF": ("exif", "icc", "xmp", "dpi"),
    "BMP": ("dpi",),
}


def drop_gray_profile(metadata: Metadata, channels: int) -> Metadata:
    """Remove a gray profile if the file will have three color channels."""
    if channels == 3 and metadata.icc and metadata.icc[16:20] == b"GRAY":
        warn("The image is saved as RGB; its gray profile is dropped.")
        return replace(metadata, icc=None)
    return metadata


def drop_oversized(metadata: Metadata, format_name: str) -> Metadata:
    """Remove fields, with a warning, that are too long for the format."""
    without: dict[str, Any] = {}
    for field, longest in MAX_FIELD_BYTES.get(format_name, {}).items():
        length = len(getattr(metadata, field) or b"")
        if length > longest:
            name = FIELD_NAMES[field]
            warn(f"The {name} ({length} bytes) does not fit into a {format_name}; left out.")
            without[field] = None
    metadata = replace(metadata, **without)
    return _drop_oversized_text(metadata) if format_name == "PNG" else metadata


def _drop_oversized_text(metadata: Metadata) -> Metadata:
    kept: list[tuple[str, Any]] = []
    lost: list[tuple[str, Any]] = []
    left = MAX_FIELD_BYTES["PNG"]["xmp"] - len(metadata.xmp or b"")
    for key, value in metadata.text:
        fits = len(value) <= left
        (kept if fits else lost).append((key, value))
        left -= len(value) if fits else 0
    if lost:
        warn(f"PNG text ({_format_names(lost)}) is too long for a PNG; left out.")
    return replace(metadata, text=tuple(kept))


def warn_about_losses(metadata: Metadata, format_name: str) -> None:
    """Warn about the metadata that the format cannot hold."""
    names = {
        "exif": "EXIF",
        "icc": "a color profile",
        "xmp": "XMP",
        "dpi": "a resolution",
        "comment": "a comment",
        "text": f"PNG text ({_format_names(metadata.text)})",
        "png_color": "PNG color chunks",
        "jpeg_segments": "JPEG segments (IPTC, extended XMP)",
    }
    lost = [name for field, name in names.items() if field not in SUPPORTED_FIELDS[format_name] and getattr(metadata, field)]
    if metadata.dpi == UNKNOWN_DPI:
        lost = [name for name in lost if name != names["dpi"]]
    if b"sRGB" in metadata.png_color and b"cICP" not in metadata.png_color:  # sRGB is assumed for any file
        lost = [name for name in lost if name != names["png_color"]]
    if lost:
        warn(f"{format_name} cannot store {', '.join(lost)}; left out.")


def _format_names(text: Sequence[tuple[str, Any]]) -> str:
    more = len(text) - MAX_NAMED
    return ", ".join(key for key, _ in text[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def save_arguments(metadata: Metadata, format_name: str) -> dict[str, Any]:
    """Return arguments for Pillow's `Image.save` with the metadata that the format can hold. TIFF: see `tiff_entries`."""
    out: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi}
    if format_name == "PNG":
        out["pnginfo"] = _png_text(metadata)
    elif format_name == "JPEG":
        del out["exif"]  # see `insert_jpeg_segments`
    elif format_name == "WEBP":
        exif = metadata.exif.removeprefix(EXIF_HEADER) if metadata.exif else None
        out = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.xmp}
    elif format_name == "BMP":
        out = {"dpi": metadata.dpi}
    return {key: value for key, value in out.items() if value}


def _png_text(metadata: Metadata) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.text:
        if isinstance(value, PngImagePlugin.iTXt):
            chunks.add_itxt(key, value, str(value.lang or ""), str(value.tkey or ""))
        else:
            chunks.add_text(key, value)
    if metadata.xmp:
        chunks.add_itxt(PNG_XMP, metadata.xmp.decode("utf-8", "replace"))
    return chunks


def tiff_entries(metadata: Metadata) -> tuple[str, dict[int, TiffField]]:
    """Return the byte order and all tags of a TIFF with this metadata, except the storage tags."""
    tiff = (metadata.exif or b"")[len(EXIF_HEADER) :]
    header = parse_tiff_header(tiff)
    order, entries = ("<", {}) if header is None else (header.order, read_directory(tiff, header, header.first))
    entries = {tag: entry for tag, entry in entries.items() if tag not in STORAGE_TAGS}
    if metadata.xmp:
        entries[XMP_TAG] = TiffField(TiffType.BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.icc:
        entries[ICC_TAG] = TiffField(TiffType.UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.dpi:
        for tag, value in zip(RESOLUTION_TAGS, metadata.dpi):
            entries[tag] = TiffField(TiffType.RATIONAL, 1, struct.pack(order + "LL", round(value * 10000), 10000))
        entries[RESOLUTION_UNIT_TAG] = TiffField(TiffType.SHORT, 1, struct.pack(order + "H", INCH))
    return order, entries


def insert_jpeg_segments(jpeg: bytes, metadata: Metadata) -> bytes:
    """Insert EXIF, XMP, IPTC and comment after the first (JFIF) segment. Pillow before 10 truncates long ones."""
    segments = b""
    for header, payload in ((b"", metadata.exif), (XMP_HEADER, metadata.xmp)):
        if payload:
            segments += jpeg_segment("APP1", header + payload)
    segments += metadata.jpeg_segments
    if metadata.comment:
        segments += jpeg_segment("COM", metadata.comment)
    at = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:at] + segments + jpeg[at:]


def insert_chunks(png: bytes, metadata: Metadata) -> bytes:
    """Insert metadata into a PNG written without any (by OpenCV). Pillow encodes the chunks in a 1x1 image."""
    carrier = io.BytesIO()
    Image.new("RGB", (1, 1)).save(carrier, "PNG", **save_arguments(metadata, "PNG"))
    chunks = b"".join(chunk for kind, chunk in header_chunks(carrier.getvalue()) if kind != b"IHDR")
    return insert_after_header(png, metadata.png_color + chunks)


def insert_png_color(png: bytes, metadata: Metadata) -> bytes:
    """Insert gamma, primaries and rendering intent, which Pillow does not write."""
    return insert_after_header(png, metadata.png_color)

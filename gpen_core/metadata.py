"""What a picture file carries beside its pixels: taken out of one file and put into the next.

The orientation is taken out, since it is applied to the pixels; a CMYK profile is left out, since it describes pixels that
are no longer there.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, PngImagePlugin

from .images import ORIENTATION

log = logging.getLogger(__name__)

EXIF_IFDS = (0x8769, 0x8825)  # Exif and GPS
XMP_TAG, ICC_TAG = 700, 34675
# TIFF 6.0: tags that describe how the pixels are stored, not what they show.
STORAGE_TAGS = frozenset(
    {*range(254, 260), *range(262, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), 330}
    | {*range(332, 343), 347, *range(512, 522), *range(529, 533), XMP_TAG, ICC_TAG, 0xA005}
)
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
XMP_ORIENTATION = re.compile(rb'\s+tiff:Orientation="[0-9]"|<tiff:Orientation>[0-9]</tiff:Orientation>')
PNG_XMP = "XML:com.adobe.xmp"
PNG_COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MARKER_LIMIT = 65533  # payload of one JPEG marker


@dataclass(frozen=True)
class Metadata:
    exif: bytes | None = None
    """`Exif` header, TIFF structure; without orientation."""
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None
    """JPEG comment."""
    text: tuple[tuple[str, Any], ...] = ()
    """PNG text chunks: what A1111 ("parameters") and ComfyUI ("workflow", "prompt") write."""
    png_colour: bytes = b""
    """PNG chunks for gamma, primaries and rendering intent, as they stood."""


def collect(image: Image.Image, source: bytes) -> Metadata:
    """`image` has been opened from `source` and its pixels loaded."""
    info = image.info
    text = {k: v for k, v in getattr(image, "text", {}).items() if isinstance(v, str)}
    xmp = text.pop(PNG_XMP, None) or info.get("xmp") or _jpeg_xmp(image) or _tiff_tag(image, XMP_TAG)
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    cmyk = image.mode == "CMYK"
    return Metadata(
        exif=_exif(image),
        icc=None if cmyk else info.get("icc_profile") or None,
        xmp=XMP_ORIENTATION.sub(b"", bytes(xmp)) if xmp else None,
        dpi=_dpi(info.get("dpi")),
        comment=info.get("comment") if isinstance(info.get("comment"), bytes) else None,
        text=tuple(text.items()),
        png_colour=b"".join(c for kind, c in png_chunks(source) if kind in PNG_COLOUR_CHUNKS),
    )


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def _jpeg_xmp(image: Image.Image) -> bytes | None:
    """Pillow before 11 does not put a JPEG's XMP into `info`."""
    segments = (data for marker, data in getattr(image, "applist", []) if marker == "APP1")
    return next((data[len(XMP_HEADER) :] for data in segments if data.startswith(XMP_HEADER)), None)


def _tiff_tag(image: Image.Image, tag: int) -> bytes | None:
    value = image.tag_v2.get(tag) if hasattr(image, "tag_v2") else None
    return value if isinstance(value, bytes) else None


def _exif(image: Image.Image) -> bytes | None:
    exif = image.getexif()
    raw = image.info.get("exif")
    if raw and ORIENTATION not in exif and image.format != "TIFF":
        return bytes(raw)
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in EXIF_IFDS:
            kept[tag] = {k: v for k, v in exif.get_ifd(tag).items() if k not in STORAGE_TAGS}
        elif tag not in STORAGE_TAGS:
            kept[tag] = value
    return kept.tobytes() if len(kept) else None


def exif_object(metadata: Metadata) -> Image.Exif:
    """The EXIF block parsed, with the XMP packet as TIFF's tag for it."""
    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
    if metadata.xmp:
        exif[XMP_TAG] = metadata.xmp
    return exif


def save_arguments(metadata: Metadata, format_name: str) -> dict[str, Any]:
    """Keyword arguments for Pillow's `Image.save` that carry the metadata over; what a format cannot hold is logged."""
    out: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi}
    if format_name == "PNG":
        out["pnginfo"] = _png_text(metadata)
    elif metadata.text:
        log.warning("%s has no place for PNG text (%s); left out.", format_name, ", ".join(k for k, _ in metadata.text))
    if format_name == "WEBP":
        out["xmp"] = metadata.xmp
        del out["dpi"]
    elif format_name == "TIFF":
        out["exif"] = exif_object(metadata)
    elif format_name == "JPEG":
        out.update(_jpeg_arguments(metadata))
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


def _jpeg_arguments(metadata: Metadata) -> dict[str, Any]:
    out: dict[str, Any] = {"comment": metadata.comment}
    if metadata.exif and len(metadata.exif) > MARKER_LIMIT:
        log.warning("The EXIF block (%d bytes) does not fit into a JPEG; left out.", len(metadata.exif))
        out["exif"] = None
    if metadata.xmp and len(metadata.xmp) + len(XMP_HEADER) > MARKER_LIMIT:
        log.warning("The XMP packet (%d bytes) does not fit into a JPEG; left out.", len(metadata.xmp))
    elif metadata.xmp:
        payload = XMP_HEADER + metadata.xmp
        out["extra"] = b"\xff\xe1" + struct.pack(">H", 2 + len(payload)) + payload  # APP1
    return out


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, whole chunk) of a PNG up to its pixels; nothing for other data."""
    at = len(PNG_SIGNATURE)
    while data.startswith(PNG_SIGNATURE) and at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"IDAT":
            return
        yield kind, data[at : at + 12 + length]
        at += 12 + length


def into_png(png: bytes, metadata: Metadata) -> bytes:
    """Puts the metadata into a PNG that was written without any (by OpenCV): Pillow encodes the chunks on a 1x1 picture."""
    carrier = io.BytesIO()
    Image.new("RGB", (1, 1)).save(carrier, "PNG", **save_arguments(metadata, "PNG"))
    chunks = b"".join(chunk for kind, chunk in png_chunks(carrier.getvalue()) if kind != b"IHDR")
    return _after_header(png, metadata.png_colour + chunks)


def with_png_colour(png: bytes, metadata: Metadata) -> bytes:
    """Puts gamma, primaries and intent back, which Pillow does not write."""
    return _after_header(png, metadata.png_colour)


def _after_header(png: bytes, chunks: bytes) -> bytes:
    at = len(PNG_SIGNATURE) + 12 + 13  # IHDR is 13 bytes long and always first
    return png[:at] + chunks + png[at:]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

"""Image metadata, and reading it from a file. `metadata_writing` writes it to the next.

The orientation is removed because it is applied to the pixels. A CMYK profile is dropped because the pixels become RGB.
EXIF is copied byte for byte: Pillow would guess types again and replace non-ASCII text with "?".
"""

from __future__ import annotations

import contextlib
import re
import struct
from dataclasses import dataclass
from typing import Any

from PIL import Image

from . import bmff
from .image import ORIENTATION_TAG
from .image_warnings import warn
from .jpeg_segments import copied_segments
from .photoshop import RESOURCES_TAG, without_thumbnail
from .png import header_chunks, inflated_size, png_chunk
from .tiff import INTEGER_FORMATS, TiffField, TiffType, parse_tiff_header, read_directory, write_directory
from .xmp_trailing_data import without_trailing_data

EXIF_HEADER = b"Exif\x00\x00"
XMP_TAG, ICC_TAG, RESOLUTION_TAGS = 700, 34675, (282, 283)
C2PA_TAG = 0xCD41  # C2PA 2.1, A.3.4: its signature covers the old pixels
LAYERS_TAG = 37724  # ImageSourceData: Photoshop opens these layers instead of the pixels
# TIFF 6.0: tags that describe pixel storage, and tags that must not be copied unchanged.
STORAGE_TAGS = frozenset(
    {*range(254, 260), *range(262, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), 330}
    | {*range(332, 343), 347, *range(512, 522), *range(529, 533), XMP_TAG, ICC_TAG, C2PA_TAG, LAYERS_TAG}
)
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
XMP_ORIENTATION = re.compile(  # bounded, because packets are padded with thousands of spaces
    rb"""\stiff:Orientation\s{0,9}=\s{0,9}["']([0-9]{0,3})["']|<tiff:Orientation>\s{0,9}([0-9]{0,3})\s{0,9}</tiff:Orientation>"""
)
PNG_XMP = "XML:com.adobe.xmp"
# ImageMagick's keys from before PNG had an EXIF chunk, and the prefix that makes the value an APP1 payload.
RAW_PROFILES = {"Raw profile type exif": b"", "Raw profile type APP1": b"", "Raw profile type xmp": XMP_HEADER}
# ITU-T H.273: sRGB, codes displayed like sRGB, and unspecified.
SRGB_PRIMARIES, SRGB_TRANSFERS = (1, 2), (1, 2, 6, 13)
PNG_COLOR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
MAX_PNG_PROFILE_BYTES = 1 << 20  # `MAX_TEXT_CHUNK` of Pillow's PngImagePlugin
TOO_LONG_ERROR = re.compile("MAX_TEXT|decompressed data too large", re.IGNORECASE)  # newer and older Pillow


@dataclass(frozen=True)
class Metadata:
    exif: bytes | None = None
    """`Exif` header and TIFF structure, without orientation and thumbnail."""
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None
    """Comment of a JPEG or GIF."""
    text: tuple[tuple[str, Any], ...] = ()
    """PNG text chunks, as written by A1111 ("parameters") and ComfyUI ("workflow", "prompt")."""
    png_color: bytes = b""
    """PNG chunks for gamma, primaries and rendering intent, unchanged."""
    jpeg_segments: bytes = b""
    """JPEG segments with IPTC captions and extended XMP, without Photoshop's thumbnail."""
    dropped: tuple[str, ...] = ()
    """Names of the file's other blocks; see `dropped_fields`."""


def read_metadata(image: Image.Image, source: bytes) -> Metadata:
    """Read the metadata of `image`, which was opened from `source` and loaded."""
    xmp, used_keys = _xmp(image), {PNG_XMP, *_raw_profiles(image)}
    return Metadata(
        exif=_exif(image, source),
        icc=color_profile(image, source),
        xmp=without_trailing_data(XMP_ORIENTATION.sub(b"", xmp))[0] if xmp else None,
        dpi=_dpi(image),
        comment=_comment(image),
        text=tuple((k, v) for k, v in getattr(image, "text", {}).items() if isinstance(v, str) and k not in used_keys),
        png_color=_png_color(image, source),
        jpeg_segments=copied_segments(image),
    )


def read_orientation(image: Image.Image) -> int:
    """Return the orientation from EXIF, else from XMP, as in Pillow 11 and newer; else 1. TIFF: see `codecs`.

    HEIC and AVIF use properties of their own (ISO/IEC 23008-12, 6.5.10 and 6.5.12) instead of EXIF. libheif applies them,
    and Pillow copies those of an AVIF into EXIF."""
    if image.format in ("HEIF", "JPEG2000"):
        return 1
    header = parse_tiff_header(tiff := _raw_exif(image))
    entry = read_directory(tiff, header, header.first).get(ORIENTATION_TAG) if header else None
    if header and entry and isinstance(entry.value, bytes) and entry.kind in INTEGER_FORMATS:
        return int(struct.unpack_from(header.order + INTEGER_FORMATS[entry.kind], entry.value)[0])
    match = XMP_ORIENTATION.search(_xmp(image) or b"") if image.format != "AVIF" else None
    return int((match[1] or match[2] or b"1") if match else 1)


def _comment(image: Image.Image) -> bytes | None:
    """Return the comment, except a JPEG 2000's, which only names its encoder."""
    comment = image.info.get("comment")
    return comment if isinstance(comment, bytes) and image.format != "JPEG2000" else None


def _png_color(image: Image.Image, source: bytes) -> bytes:
    """Return PNG color chunks, also for a HEIC or AVIF without profile whose colors are not sRGB, such as HDR."""
    if image.format not in ("AVIF", "HEIF"):
        return b"".join(chunk for kind, chunk in header_chunks(source) if kind in PNG_COLOR_CHUNKS)
    codes = None if image.info.get("icc_profile") else bmff.color_codes(source)
    if codes is None or (codes[0] in SRGB_PRIMARIES and codes[1] in SRGB_TRANSFERS):
        return b""
    return png_chunk(b"cICP", bytes((*codes, 0, 1)))  # full-range RGB


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    if hasattr(image, "tag_v2") and RESOLUTION_TAGS[0] not in image.tag_v2:
        return None  # Pillow reports 1 dpi
    try:
        x, y = (float(v) for v in image.info.get("dpi") or ())
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if 1 <= x <= 65535 and 1 <= y <= 65535 else None  # JPEG's range


def color_profile(image: Image.Image, source: bytes) -> bytes | None:
    """Return the ICC profile of the pixels as RGB or gray."""
    profile = image.info.get("icc_profile")
    if not profile and _has_profile(image, source):
        warn("The color profile is damaged or incomplete; left out.")
    space = profile[16:20] if profile else b""  # ICC.1:2010, 7.2.6
    return None if image.mode == "CMYK" or space in (b"CMYK", b"Lab ") else profile or None


def _has_profile(image: Image.Image, source: bytes) -> bool:
    """Return whether the file has a profile that Pillow did not read."""
    segments = getattr(image, "applist", [])
    in_jpeg = any(name == "APP2" and data.startswith(b"ICC_PROFILE\x00") for name, data in segments)
    return in_jpeg or any(kind == b"iCCP" for kind, _ in header_chunks(source))


def oversized_message(source: bytes, error: Exception) -> str | None:
    """Return the message for a PNG that Pillow refused because of long metadata, else None."""
    if not TOO_LONG_ERROR.search(str(error)):
        return None
    profiles = (chunk[8:-4].partition(b"\0")[2][1:] for kind, chunk in header_chunks(source) if kind == b"iCCP")
    is_profile = any(inflated_size(one, MAX_PNG_PROFILE_BYTES) > MAX_PNG_PROFILE_BYTES for one in profiles)
    problem = "color profile of the PNG is larger than 1 MiB" if is_profile else "text in the PNG is too long"
    return f"the {problem} ({error}). Remove it, for example with exiftool, and try again."


def trailing_data_in_xmp(image: Image.Image) -> tuple[str, ...]:
    """Return the trailing data that the XMP declares; see `xmp_trailing_data`."""
    xmp = _xmp(image)
    return without_trailing_data(xmp)[1] if xmp else ()


def _xmp(image: Image.Image) -> bytes | None:
    """Return the XMP packet. Pillow before 11 provides it in `info` for some formats only."""
    found = getattr(image, "text", {}).get(PNG_XMP) or image.info.get("xmp")
    if not found and hasattr(image, "tag_v2"):
        found = image.tag_v2.get(XMP_TAG)
    segments = (data for name, data in getattr(image, "applist", []) if name == "APP1")
    for data in (*_raw_profiles(image).values(), *segments):
        if not found and data.startswith(XMP_HEADER):
            found = data[len(XMP_HEADER) :]
    if isinstance(found, str):
        return found.encode("utf-8", "surrogateescape")
    return bytes(found) if isinstance(found, bytes) else None


def _raw_profiles(image: Image.Image) -> dict[str, bytes]:
    """Decode ImageMagick's profiles in PNG text: hexadecimal digits after an empty line, a name and the length."""
    out = {}
    for key, value in getattr(image, "text", {}).items():
        if key in RAW_PROFILES:
            with contextlib.suppress(ValueError):  # then it remains plain text
                out[key] = RAW_PROFILES[key] + bytes.fromhex("".join(value.split("\n")[3:]))
    return out


def _raw_exif(image: Image.Image) -> bytes:
    """Return the EXIF block without its header, which WebP omits."""
    raw = image.info.get("exif") or next((v for v in _raw_profiles(image).values() if not v.startswith(XMP_HEADER)), b"")
    return bytes(raw).removeprefix(EXIF_HEADER)


def _exif(image: Image.Image, source: bytes) -> bytes | None:
    raw = _raw_exif(image)
    exif = _tiff_exif(source) if image.format == "TIFF" else _strip_orientation(raw)
    if exif is None and raw:
        warn("The EXIF block is damaged; left out.")
    return EXIF_HEADER + exif if exif else None


def _strip_orientation(tiff: bytes) -> bytes | None:
    """Remove orientation and thumbnail, which would show the old image. All other data keep their positions, because a
    maker note may point to them. Returns empty bytes if no tag is left, and None if there is no directory."""
    header = parse_tiff_header(tiff)
    if header is None or header.big or header.first + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(header.order + "H", tiff, header.first)
    start, end = header.first + 2, header.first + 2 + 12 * count
    entries = [tiff[at : at + 12] for at in range(start, end, 12)]
    if not entries or len(entries[-1]) < 12:
        return None if entries else b""
    kept = [entry for entry in entries if struct.unpack_from(header.order + "H", entry)[0] != ORIENTATION_TAG]
    if not kept:
        return b""
    table = struct.pack(header.order + "H", len(kept)) + b"".join(kept) + bytes(4)  # no further directory
    return tiff[: header.first] + table.ljust(end + 4 - header.first, b"\x00") + tiff[end + 4 :]


def _tiff_exif(source: bytes) -> bytes | None:
    header = parse_tiff_header(source)
    if header is None:
        return None
    entries = {tag: entry for tag, entry in read_directory(source, header, header.first).items() if tag not in STORAGE_TAGS}
    for tag in RESOLUTION_TAGS:
        if tag in entries and entries[tag].kind != TiffType.RATIONAL:  # Pillow cannot open a JPEG with another type
            del entries[tag]
    resources = entries[RESOURCES_TAG].value if RESOURCES_TAG in entries else b""
    if isinstance(resources, bytes) and (kept := without_thumbnail(resources)) != resources:
        del entries[RESOURCES_TAG]
        if kept:
            entries[RESOURCES_TAG] = TiffField(TiffType.UNDEFINED, len(kept), kept)
    start = b"II*\x00\x08\x00\x00\x00" if header.order == "<" else b"MM\x00*\x00\x00\x00\x08"
    return start + write_directory(entries, header.order, 8) if entries else None

"""Updating width and height in the metadata of an image that was resized or turned upright.

The resolution (pixels per inch) and texts such as A1111's are kept unchanged."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from PIL import Image

from .image import SIDEWAYS
from .metadata import EXIF_HEADER, Metadata
from .tiff import EXIF_IFD, INTEROP_IFD, TiffHeader, TiffOffset, TiffType, iter_entries, parse_tiff_header
from .xmp_regions import turn_regions

# EXIF 2.3: width and height tags by directory; 0 is the first directory.
WIDTH_TAGS = {0: 0x0100, EXIF_IFD: 0xA002, INTEROP_IFD: 0x1001}
HEIGHT_TAGS = {0: 0x0101, EXIF_IFD: 0xA003, INTEROP_IFD: 0x1002}
SUB_IFD = {0: EXIF_IFD, EXIF_IFD: INTEROP_IFD}
XMP_DIMENSIONS = (b"exif:PixelXDimension|tiff:ImageWidth", b"exif:PixelYDimension|tiff:ImageLength")


def with_dimensions(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """Return the metadata for an image of this (width, height). Damaged parts are kept unchanged."""
    return replace(metadata, exif=_update_exif(metadata.exif, size), xmp=_update_xmp(metadata.xmp, size))


def with_upright_dimensions(metadata: Metadata, image: Image.Image, orientation: int, size: tuple[int, int]) -> Metadata:
    """Return the metadata of `image` for its upright pixels of this (width, height), after this EXIF orientation.

    libheif turns a HEIC upright itself, but its EXIF block has the camera's width and height."""
    is_turned = image.size != size or image.info.get("original_orientation") in SIDEWAYS
    if metadata.xmp:
        metadata = replace(metadata, xmp=turn_regions(metadata.xmp, orientation, size))
    return with_dimensions(metadata, size) if is_turned else metadata


def _update_exif(exif: bytes | None, size: tuple[int, int]) -> bytes | None:
    """Update in place: values keep their positions, because a maker note may point to them."""
    tiff = bytearray((exif or b"")[len(EXIF_HEADER) :])
    header = parse_tiff_header(tiff)
    if exif is None or header is None or header.big:
        return exif
    at, owner = header.first, 0
    while True:
        places = {place.tag: place for place in iter_entries(tiff, header, at)}
        for tag, value in ((WIDTH_TAGS[owner], size[0]), (HEIGHT_TAGS[owner], size[1])):
            if tag in places:
                _write_value(tiff, header, places[tag], value)
        inside = places.get(SUB_IFD.get(owner, -1))
        if inside is None or inside.kind not in (TiffType.LONG, TiffType.IFD):
            return EXIF_HEADER + bytes(tiff)
        (at,) = struct.unpack_from(header.order + "L", tiff, inside.value_at)
        owner = inside.tag


def _write_value(tiff: bytearray, header: TiffHeader, place: TiffOffset, value: int) -> None:
    if place.kind in (TiffType.SHORT, TiffType.LONG) and place.values == 1:
        struct.pack_into(header.order + "HLL", tiff, place.at + 2, TiffType.LONG, 1, value)


def _update_xmp(xmp: bytes | None, size: tuple[int, int]) -> bytes | None:
    """Update both attributes and elements."""
    if xmp is None:
        return None
    for names, value in zip(XMP_DIMENSIONS, size):
        number = rb"\g<1>%d" % value
        xmp = re.sub(rb"((?:%s)\s{0,9}=\s{0,9}[\"'])[0-9]{1,9}(?=[\"'])" % names, number, xmp)
        xmp = re.sub(rb"(<(?:%s)>\s{0,9})[0-9]{1,9}(?=\s{0,9}</)" % names, number, xmp)
    return xmp

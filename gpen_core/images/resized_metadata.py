"""Metadata of a picture whose size has changed: where it tells width and height, it tells the new ones.

The resolution stays: it is said for pixels, of which there are more. A text such as A1111's stays as it was written, too."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from .metadata import EXIF_HEADER, Metadata
from .tiff import EXIF_IFD, INTEROP_IFD, Header, Place, directory, tiff_header

SHORT, LONG = 3, 4
# EXIF 2.3: tags of width and of height, by directory; 0 is the first.
WIDTHS = {0: 0x0100, EXIF_IFD: 0xA002, INTEROP_IFD: 0x1001}
HEIGHTS = {0: 0x0101, EXIF_IFD: 0xA003, INTEROP_IFD: 0x1002}
INSIDE = {0: EXIF_IFD, EXIF_IFD: INTEROP_IFD}
XMP_SIDES = (b"exif:PixelXDimension|tiff:ImageWidth", b"exif:PixelYDimension|tiff:ImageLength")


def resized(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """The same for a picture of that width and height. What is damaged stays as it is."""
    return replace(metadata, exif=_exif(metadata.exif, size), xmp=_xmp(metadata.xmp, size))


def _exif(exif: bytes | None, size: tuple[int, int]) -> bytes | None:
    """Every value stays where it is, since a maker's note may point to it."""
    tiff = bytearray((exif or b"")[len(EXIF_HEADER) :])
    header = tiff_header(tiff)
    if exif is None or header is None or header.big:
        return exif
    at, owner = header.first, 0
    while True:
        places = {place.tag: place for place in directory(tiff, header, at)}
        for tag, value in ((WIDTHS[owner], size[0]), (HEIGHTS[owner], size[1])):
            if tag in places:
                _put(tiff, header, places[tag], value)
        inside = places.get(INSIDE.get(owner, -1))
        if inside is None or inside.kind not in (LONG, 13):
            return EXIF_HEADER + bytes(tiff)
        (at,) = struct.unpack_from(header.order + "L", tiff, inside.value_at)
        owner = inside.tag


def _put(tiff: bytearray, header: Header, place: Place, value: int) -> None:
    if place.kind in (SHORT, LONG) and place.values == 1:
        struct.pack_into(header.order + "HLL", tiff, place.at + 2, LONG, 1, value)


def _xmp(xmp: bytes | None, size: tuple[int, int]) -> bytes | None:
    """As attributes and as elements."""
    if xmp is None:
        return None
    for names, value in zip(XMP_SIDES, size):
        number = rb"\g<1>%d" % value
        xmp = re.sub(rb"((?:%s)\s{0,9}=\s{0,9}[\"'])[0-9]{1,9}(?=[\"'])" % names, number, xmp)
        xmp = re.sub(rb"(<(?:%s)>\s{0,9})[0-9]{1,9}(?=\s{0,9}</)" % names, number, xmp)
    return xmp

"""Reading and writing TIFF tag directories (TIFF 6.0, section 2), also used by EXIF, byte for byte.

Pillow reads them, but guesses the types again when it writes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
SUB_IFDS = {0: (EXIF_IFD, GPS_IFD), EXIF_IFD: (INTEROP_IFD,)}  # 0: the first directory
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value of each type, see `TiffType`."""
MAX_ENTRIES = 0xFFFF


class TiffType(IntEnum):
    """Types of values that this package reads or writes (TIFF 6.0, section 2; IFD: supplement 1)."""

    BYTE = 1
    SHORT = 3
    LONG = 4
    RATIONAL = 5
    UNDEFINED = 7
    IFD = 13


INTEGER_FORMATS: dict[int, str] = {TiffType.BYTE: "B", TiffType.SHORT: "H", TiffType.LONG: "L"}


class TiffHeader(NamedTuple):
    """Header of a TIFF structure; EXIF has one, too."""

    order: str  # in `struct` notation
    big: bool  # BigTIFF: 64-bit positions
    first: int  # position of the first directory


class TiffOffset(NamedTuple):
    """An entry of a TIFF directory with the positions of the entry and its value."""

    at: int
    tag: int
    kind: int
    values: int
    value_at: int
    length: int


class TiffField(NamedTuple):
    """An entry of a TIFF directory with its value."""

    kind: int
    values: int
    value: bytes | dict[int, TiffField]  # in the structure's byte order, or the directory that it points to


def parse_tiff_header(data: bytes | bytearray) -> TiffHeader | None:
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    big = 43 in data[2:4]
    if order is None or len(data) < (16 if big else 8) or not (big or 42 in data[2:4]):
        return None
    (first,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
    return TiffHeader(order, big, first)


def iter_entries(data: bytes | bytearray, header: TiffHeader, at: int) -> Iterator[TiffOffset]:
    """Yield the entries of the directory at `at` whose values are inside `data`. Raises `ValueError` if it claims more
    than `MAX_ENTRIES`, the maximum of a classic TIFF."""
    number, position, size = ("Q", "Q", 20) if header.big else ("H", "L", 12)
    number_bytes, inline = struct.calcsize("=" + number), struct.calcsize("=" + position)
    if at + number_bytes > len(data):
        return
    (count,) = struct.unpack_from(header.order + number, data, at)
    if count > MAX_ENTRIES:
        raise ValueError(f"a TIFF directory claims {count:,} entries")
    at += number_bytes
    for entry in range(at, min(at + count * size, len(data) - size + 1), size):
        tag, kind, values = struct.unpack_from(header.order + "HH" + position, data, entry)
        length, value_at = values * TYPE_BYTES.get(kind, 0), entry + size - inline
        if length > inline:
            (value_at,) = struct.unpack_from(header.order + position, data, value_at)
        if length and value_at + length <= len(data):
            yield TiffOffset(entry, tag, kind, values, value_at, length)


def read_directory(data: bytes, header: TiffHeader, at: int, owner: int = 0) -> dict[int, TiffField]:
    """Read the directory at `at` with its Exif, GPS and interoperability directories. `owner` is its own tag, 0 for the
    first."""
    out: dict[int, TiffField] = {}
    left = len(data)  # entries overlap or repeat only in hostile files
    for place in iter_entries(data, header, at):
        left -= place.length
        if left < 0:
            break
        value = data[place.value_at : place.value_at + place.length]
        if place.tag in out:
            continue
        if place.tag not in SUB_IFDS.get(owner, ()):
            out[place.tag] = TiffField(place.kind, place.values, value)
        else:
            is_position = place.kind in (TiffType.LONG, TiffType.IFD)
            (start,) = struct.unpack(header.order + "L", value[:4]) if is_position else (len(data),)
            out[place.tag] = TiffField(TiffType.LONG, 1, read_directory(data, header, start, place.tag))
    return {tag: entry for tag, entry in out.items() if entry.value}


def write_directory(entries: dict[int, TiffField], order: str, at: int) -> bytes:
    """Return the bytes of a directory and its values, for position `at` of a TIFF structure."""
    inline, trailing = [struct.pack(order + "H", len(entries))], []
    start = at + 2 + 12 * len(entries) + 4
    for tag, (kind, count, value) in sorted(entries.items()):
        data = write_directory(value, order, start) if isinstance(value, dict) else value
        if isinstance(value, dict) or len(data) > 4:
            trailing.append(data + bytes(len(data) % 2))  # at even positions
            data = struct.pack(order + "L", start)
            start += len(trailing[-1])
        inline.append(struct.pack(order + "HHL", tag, kind, count) + data.ljust(4, b"\x00"))
    return b"".join((*inline, bytes(4), *trailing))  # no further directory

"""Parsing the boxes of HEIC, AVIF and JPEG 2000 files (ISO/IEC 14496-12, 4.2; 23008-12; 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

FILE_TYPE_BYTES = 256  # the first box, within these bytes, lists the file's brands
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"})
SEQUENCE_BRANDS = frozenset({b"hevc", b"hevx", b"msf1"})
CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"jp2h": 0}
"""Boxes that contain other boxes, and the number of bytes before the first of those."""
MAX_BOXES = 10_000  # a hostile file could contain almost one per byte


class Box(NamedTuple):
    kind: bytes
    start: int
    """Start of the content, after the header."""
    end: int
    """May be beyond the end of the data."""


def iter_boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield consecutive boxes from `start`, up to the first damaged one."""
    end = len(data) if end is None else min(end, len(data))
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        length, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if length == 1 and start + 16 <= end:
            length, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif length == 0:  # up to the end
            length = end - start
        if length < header:
            return
        yield Box(kind, start + header, start + length)
        start += length


def find_boxes(data: bytes, *path: bytes) -> list[Box]:
    """Return the boxes at this path, e.g. `meta`, `iprp`, `ipco`, `colr`."""
    found = [Box(b"", 0, len(data))]
    for kind in path:
        found = [
            one
            for parent in found
            for one in iter_boxes(data, parent.start + CONTAINERS.get(parent.kind, 0), parent.end)
            if one.kind == kind
        ][:MAX_BOXES]
    return found


def brands(data: bytes) -> frozenset[bytes]:
    """Return the file's brands; empty if it does not begin with an `ftyp` box."""
    box = next(iter_boxes(data[:FILE_TYPE_BYTES]), None)
    if box is None or box.kind != b"ftyp":
        return frozenset()
    body = data[box.start : min(box.end, FILE_TYPE_BYTES)]
    return frozenset((body[:4], *(body[at : at + 4] for at in range(8, len(body) - 3, 4))))


def image_kind(start: bytes) -> str | None:
    """Return "AVIF" or "HEIF" from a file's first `FILE_TYPE_BYTES`, else None."""
    found = brands(start)
    return "AVIF" if found & AVIF_BRANDS else "HEIF" if found & HEIF_BRANDS else None


def is_sequence(data: bytes) -> bool:
    """Return whether the file is an image sequence by its major brand; compatible brands do not count."""
    return data[4:8] == b"ftyp" and data[8:12] in SEQUENCE_BRANDS


def color_codes(data: bytes) -> tuple[int, int] | None:
    """Return the primaries and transfer function (ITU-T H.273) of a HEIC or AVIF's first image; None without such a box."""
    for _, at, _ in find_boxes(data, b"meta", b"iprp", b"ipco", b"colr"):
        if data[at : at + 4] == b"nclx" and at + 8 <= len(data):
            primaries, transfer = data[at + 5], data[at + 7]  # two bytes each, the first of which is 0
            return primaries, transfer
    return None


def av1_bit_depth(data: bytes) -> int:
    """Return 8, 10 or 12 from the first AV1 configuration (AV1-ISOBMFF, 2.3.3); 8 without one."""
    for _, at, _ in find_boxes(data, b"meta", b"iprp", b"ipco", b"av1C"):
        flags = data[at + 2 : at + 3]
        if flags:
            return (12 if flags[0] & 0x20 else 10) if flags[0] & 0x40 else 8
    return 8


def check_complete(data: bytes) -> None:
    """Raise `ValueError` if the last box is longer than the file, as in a truncated one."""
    for box in iter_boxes(data):
        if box.end > len(data):
            raise ValueError(f"it ends after {len(data):,} of {box.end:,} bytes")

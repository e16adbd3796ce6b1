"""The boxes that HEIC, AVIF and JPEG 2000 files consist of (ISO/IEC 14496-12, 4.2; 23008-12; 15444-1, annex I)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

FILE_TYPE_BYTES = 256  # of a file, in which its first box names its kinds
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"})
SEQUENCE_BRANDS = frozenset({b"hevc", b"hevx", b"msf1"})
CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"jp2h": 0}
"""Boxes that hold others, and how many bytes stand before those."""
MAX_BOXES = 10_000  # in a hostile file they may be as many as its bytes


class Box(NamedTuple):
    kind: bytes
    start: int
    """Of what it holds, without its header."""
    end: int
    """May lie behind the data's end."""


def iter_boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes that follow each other from `start`, up to one that is damaged."""
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
    """Those that lie at this path, such as `meta`, `iprp`, `ipco`, `colr`."""
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
    """The kinds that a file says it is of; none where it does not begin with a box that says so."""
    box = next(iter_boxes(data[:FILE_TYPE_BYTES]), None)
    if box is None or box.kind != b"ftyp":
        return frozenset()
    body = data[box.start : min(box.end, FILE_TYPE_BYTES)]
    return frozenset((body[:4], *(body[at : at + 4] for at in range(8, len(body) - 3, 4))))


def image_kind(start: bytes) -> str | None:
    """AVIF or HEIF by a file's first `FILE_TYPE_BYTES`, else None."""
    found = brands(start)
    return "AVIF" if found & AVIF_BRANDS else "HEIF" if found & HEIF_BRANDS else None


def is_sequence(data: bytes) -> bool:
    """Whether it is a video of images: its own kind, not one that it is also of."""
    return data[4:8] == b"ftyp" and data[8:12] in SEQUENCE_BRANDS


def color_codes(data: bytes) -> tuple[int, int] | None:
    """The primaries and the transfer function (ITU-T H.273) of a HEIC's or AVIF's first image, where a box tells."""
    for _, at, _ in find_boxes(data, b"meta", b"iprp", b"ipco", b"colr"):
        if data[at : at + 4] == b"nclx" and at + 8 <= len(data):
            primaries, transfer = data[at + 5], data[at + 7]  # two bytes each, of which the first is 0
            return primaries, transfer
    return None


def av1_bit_depth(data: bytes) -> int:
    """8, 10 or 12, by the first AV1 configuration (AV1-ISOBMFF, 2.3.3); 8 where there is none."""
    for _, at, _ in find_boxes(data, b"meta", b"iprp", b"ipco", b"av1C"):
        flags = data[at + 2 : at + 3]
        if flags:
            return (12 if flags[0] & 0x20 else 10) if flags[0] & 0x40 else 8
    return 8


def check_complete(data: bytes) -> None:
    """Raises `ValueError` where the last box is longer than the file, as in one that was cut off."""
    for box in iter_boxes(data):
        if box.end > len(data):
            raise ValueError(f"it ends after {len(data):,} of {box.end:,} bytes")

"""Check that a PNG contains all its rows. If the data end cleanly too early, decoders silently leave the rest black."""

from __future__ import annotations

import struct
import zlib

from .image import Pixels
from .png import iter_chunks

CHUNK_SIZE = 1 << 20  # bytes
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the color type
PALETTE = 3
# PNG 1.2, 2.6: first column, first row and steps of each pass.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check(png: bytes, pixels: Pixels) -> None:
    """Raise `ValueError` if rows are missing.

    The rows are counted only if some may be missing: the last one is all 0, or the image has a palette or is interlaced."""
    kind, _, _, interlaced = png[25:29]
    if kind == PALETTE or interlaced or not pixels[-1].any():
        needed = _expected_bytes(png)
        if (available := _inflated_bytes(png, needed)) < needed:
            raise ValueError(f"its pixels end after {available:,} of {needed:,} bytes")


def _expected_bytes(png: bytes) -> int:
    """Return the bytes of all rows, each with its filter byte."""
    width, height, bits, kind, _, _, interlaced = struct.unpack_from(">LLBBBBB", png, 16)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    return sum(rows * (1 + -(-columns * bits * CHANNELS[kind] // 8)) for columns, rows in sizes if columns > 0 and rows > 0)


def _inflated_bytes(png: bytes, max_bytes: int) -> int:
    inflate, count = zlib.decompressobj(), 0
    for left in (png[start + 8 : end - 4] for kind, start, end in iter_chunks(png) if kind == b"IDAT"):
        while left and count < max_bytes and not inflate.eof:
            count += len(inflate.decompress(left, CHUNK_SIZE))
            left = inflate.unconsumed_tail
    while count < max_bytes and (more := inflate.flush(CHUNK_SIZE)):
        count += len(more)
    return min(count, max_bytes)

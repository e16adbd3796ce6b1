"""Check the strips or tiles of a TIFF as far as the format allows (TIFF 6.0, sections 3, 15).

Decoders stop when a strip's rows are full, so they miss excess data and never verify Deflate's checksum. LZW has no
checksum: only the positions of its strips are checked, and the rest is left to the decoder.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from .image import Pixels
from .tiff import parse_tiff_header

UNCOMPRESSED, LZW, DEFLATE = (1,), (5,), (8, 32946)
YCBCR, REVERSED_BITS, PLANAR, HORIZONTAL_PREDICTOR = 6, 2, 2, 2  # photometric, fill order, planar configuration, predictor
CHUNK_SIZE = 1 << 18  # bytes inflated at once


@dataclass(frozen=True)
class Strip:
    """A strip or tile."""

    number: int
    data: memoryview
    expected_bytes: int
    """Required number of uncompressed bytes."""
    padded_bytes: int
    """Uncompressed bytes if the writer padded the last strip to the rows of the others."""
    row_bytes: int
    """Bytes per row."""
    first_row: int | None
    """First image row, if the strip contains all samples of whole rows."""


def check(image: Image.Image, source: bytes, pixels: Pixels) -> None:
    """Raise `ValueError` if strips of the TIFF `source` are damaged. `pixels` [H, W] or [H, W, C] are the decoded ones."""
    tags = getattr(image, "tag_v2", {})
    compression = tags.get(259, 1)
    if compression not in (*UNCOMPRESSED, *LZW, *DEFLATE) or tags.get(262) == YCBCR:
        return  # other compressions have their own syntax; YCbCr needs less than one byte per sample
    strips = _strips(tags, source)
    if compression in DEFLATE and tags.get(266, 1) != REVERSED_BITS:
        _check_deflate(strips, _Checksum(pixels, tags, source))
    for strip in strips:
        if compression in UNCOMPRESSED:
            _check_length(strip, len(strip.data), sys.maxsize)


def _check_deflate(strips: Iterator[Strip], checksum: _Checksum) -> None:
    for strip in strips:
        if not checksum.matches(strip):
            most = strip.padded_bytes + strip.row_bytes - 1  # a few extra bytes are harmless if the checksum is right
            _check_length(strip, _inflated_length(strip, most), most)


def _check_length(strip: Strip, length: int, most: int) -> None:
    if not strip.expected_bytes <= length <= most:
        raise ValueError(f"strip {strip.number} holds {length:,} bytes of pixels, not {strip.expected_bytes:,}")


def _inflated_length(strip: Strip, most: int) -> int:
    """Return the inflated length, verified by the checksum. Stops soon after `most` bytes."""
    stream, length = zlib.decompressobj(), 0
    for at in range(0, len(strip.data), CHUNK_SIZE):
        rest: bytes | memoryview = strip.data[at : at + CHUNK_SIZE]
        while True:
            got = len(stream.decompress(rest, CHUNK_SIZE))
            rest, length = stream.unconsumed_tail, length + got
            if stream.eof or length > most:
                return length
            if not rest and got < CHUNK_SIZE:
                break
    raise ValueError(f"strip {strip.number} ends before its checksum")


class _Checksum:
    """Adler-32 of the decoded pixels, which is faster than inflating the strip again.

    It does not match if the pixels are not the file's samples (e.g. a palette) or the checksum is not at the strip's end."""

    def __init__(self, pixels: Pixels, tags: Any, source: bytes) -> None:
        header = parse_tiff_header(source)
        self.pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        self.order = header.order if header else "<"
        self.has_predictor = tags.get(317, 1) == HORIZONTAL_PREDICTOR

    def matches(self, strip: Strip) -> bool:
        row_bytes = self.pixels[:1].nbytes
        if strip.first_row is None or strip.expected_bytes % row_bytes:
            return False
        rows, value = self.pixels[strip.first_row : strip.first_row + strip.expected_bytes // row_bytes], 1
        step = max(1, CHUNK_SIZE // row_bytes)
        for at in range(0, len(rows), step):
            value = zlib.adler32(self._encode_rows(rows[at : at + step]), value)
        return bytes(strip.data[-4:]) == value.to_bytes(4, "big")

    def _encode_rows(self, rows: Pixels) -> memoryview:
        if self.has_predictor:  # TIFF 6.0, section 14
            rows = np.concatenate((rows[:, :1], rows[:, 1:] - rows[:, :-1]), axis=1)
        return np.ascontiguousarray(rows, f"{self.order}u{rows.itemsize}").data


def _strips(tags: Any, source: bytes) -> Iterator[Strip]:
    """Yield the strips in file order. Raises `ValueError` if their number is wrong or one is outside the file."""
    tiled = 322 in tags
    offsets, counts = (_int_tags(tags, tag) for tag in ((324, 325) if tiled else (273, 279)))
    if len(offsets) == 1 and counts in ((), (0,)):
        counts = (len(source) - offsets[0],)  # some old writers omit the size of a single strip
    # A hostile file could declare as many strips as pixels.
    expected = list(islice(_tile_sizes(tags) if tiled else _strip_sizes(tags), len(offsets) + 1))
    if not len(offsets) == len(counts) == len(expected):
        raise ValueError(f"it has {len(offsets)} strips with {len(counts)} sizes, which does not match its rows")
    view = memoryview(source)
    for number, (offset, count, sizes) in enumerate(zip(offsets, counts, expected)):
        if offset < 0 or count < 0 or offset + count > len(source):
            raise ValueError(f"strip {number} ends at byte {offset + count:,} of {len(source):,}")
        yield Strip(number, view[offset : offset + count], *sizes)


def _strip_sizes(tags: Any) -> Iterator[tuple[int, int, int, int | None]]:
    """Yield required bytes, padded bytes, bytes per row and first row."""
    width, height = _int_tag(tags, 256), _int_tag(tags, 257)
    row, planes = _row_layout(tags, width)
    per_strip = min(height, _int_tag(tags, 278, height))
    for _ in range(planes):
        for first in range(0, height, per_strip):
            needed = row * min(per_strip, height - first)
            full = row * per_strip if first else needed
            yield needed, full, row, first if planes == 1 else None


def _tile_sizes(tags: Any) -> Iterator[tuple[int, int, int, int | None]]:
    width, height, across, down = (_int_tag(tags, tag) for tag in (256, 257, 322, 323))
    row, planes = _row_layout(tags, across)
    needed = row * down
    for _ in range(-(-width // across) * -(-height // down) * planes):
        yield needed, needed, row, None


def _row_layout(tags: Any, width: int) -> tuple[int, int]:
    """Return the bytes per row and the number of planes."""
    bits = _int_tags(tags, 258) or (1,)
    samples = _int_tag(tags, 277, 1)
    apart = samples > 1 and tags.get(284, 1) == PLANAR
    per_pixel = bits[0] if apart else sum(bits) if len(bits) == samples else bits[0] * samples
    return -(-width * per_pixel // 8), samples if apart else 1


def _int_tag(tags: Any, tag: int, default: int = 0) -> int:
    value = tags.get(tag, default)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"tag {tag} is {str(value)[:20]}")
    return value


def _int_tags(tags: Any, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(number, int) for number in values):
        raise ValueError(f"tag {tag} contains values that are not integers")
    return values

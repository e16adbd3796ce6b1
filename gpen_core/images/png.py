"""Reading and writing PNG chunks (PNG 1.2, section 3.2)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_CHUNK_BYTES = 12 + 13  # IHDR: length, type, content and checksum


def iter_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of each chunk, including length and checksum. The last end may exceed the data."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at, end
        at = end


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def inflated_size(packed: bytes, max_bytes: int) -> int:
    """Return the inflated size in bytes, at most `max_bytes` + 1; 0 for invalid data."""
    try:
        return len(zlib.decompressobj().decompress(packed, max_bytes + 1))
    except zlib.error:
        return 0


def header_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, whole chunk) of a PNG up to its pixels; nothing for other data."""
    spans = iter_chunks(data) if data.startswith(PNG_SIGNATURE) else ()
    for kind, start, end in spans:
        if kind == b"IDAT":
            return
        yield kind, data[start:end]


def strip_to_pixels(png: bytes, size: tuple[int, int]) -> bytes:
    """Return a PNG of this (width, height) with only the complete pixel chunks of `png`. Others are risky: OpenCV 5
    allocates as many gigabytes as any chunk claims, and decoders differ on which of two headers counts."""
    header = png_chunk(b"IHDR", struct.pack(">LL", *size) + png[24:29])
    spans = ((start, end) for kind, start, end in iter_chunks(png) if kind in (b"tRNS", b"IDAT") and end <= len(png))
    return b"".join((PNG_SIGNATURE, header, *(png[start:end] for start, end in spans), png_chunk(b"IEND", b"")))


def insert_after_header(png: bytes, chunks: bytes) -> bytes:
    """Insert chunks into a PNG after its first one."""
    at = len(PNG_SIGNATURE) + HEADER_CHUNK_BYTES
    return png[:at] + chunks + png[at:]

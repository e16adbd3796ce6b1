"""The chunks that a PNG consists of (PNG 1.2, section 3.2)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def iter_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of each chunk, length and checksum included; the last one's end may lie behind the data's."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at, end
        at = end


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def inflated_size(packed: bytes, max_bytes: int) -> int:
    """Bytes that deflated data unpack to, counted no further than one more than `max_bytes`; 0 for what is no such data."""
    try:
        return len(zlib.decompressobj().decompress(packed, max_bytes + 1))
    except zlib.error:
        return 0

"""Reading and writing PNG chunks (PNG 1.2, section 3.2)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


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

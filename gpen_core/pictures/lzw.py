"""How long what a TIFF's LZW code stands for is (TIFF 6.0, section 13), without decoding it.

A code is a byte, or a string that was read before in the same table with one more byte; its length is that of the string
and one. How wide a code is depends on nothing but how many were read since the table was cleared. So the codes between two
clearings are read at once, and their lengths summed along the chains in steps that double.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]

CLEAR, END, FIRST = 256, 257, 258
TABLE = 4096 - FIRST  # as many codes at most before the table is full, and cleared
COUNTS = (254, 512, 1024, TABLE - 1790)  # how many codes have 9, 10, 11 and 12 bits: one earlier than would be needed
WIDTHS = np.repeat(np.arange(9, 13), COUNTS)
ENDS = np.cumsum(WIDTHS)
MASKS = (1 << WIDTHS).astype(np.int32) - 1
STARTS = [ENDS - WIDTHS + phase for phase in range(8)]  # in bits from the byte that holds the first
BYTES = [start >> 3 for start in STARTS]
SHIFTS = [(24 - (start & 7) - WIDTHS).astype(np.int32) for start in STARTS]


def decoded_length(data: bytes | memoryview) -> int | None:
    """Bytes that `data` stands for, up to its end code or, if it has none, its last whole code. None where that cannot be
    told: an older kind with its bits the other way round, tables that are filled and not cleared, or cleared so often that
    counting would take long. `ValueError` for a code that is not in its table."""
    if data[:1] == b"\x00" and len(data) > 1 and data[1] & 1:
        return None
    stream = np.frombuffer(bytes(data) + bytes(3), np.uint8)
    at, end, total = 0, 8 * len(data), 0
    for _ in range(64 + len(data) // 256):
        codes = _codes(stream, at, int(np.searchsorted(ENDS, end - at, "right")))
        stops = np.flatnonzero((codes | 1) == END)
        count = int(stops[0]) if len(stops) else len(codes)
        if count == TABLE:
            return None
        total += _length(codes[:count])
        if count == len(codes) or codes[count] == END:
            return total
        at += int(ENDS[count])
    return None


def _codes(stream: NDArray[np.uint8], at: int, count: int) -> Codes:
    """The next `count` codes from bit `at`, as if no table were cleared among them."""
    phase, first = at & 7, at >> 3
    last = first + (int(BYTES[phase][count - 1]) if count else 0)
    window = stream[first : last + 3].astype(np.int32)
    words = window[:-2] << 16 | window[1:-1] << 8 | window[2:]
    codes: Codes = words.take(BYTES[phase][:count])
    codes >>= SHIFTS[phase][:count]
    codes &= MASKS[:count]
    return codes


def _length(codes: Codes) -> int:
    """The sum over all `codes` of one table, none of which clears or ends it."""
    before = codes.astype(np.intp) - FIRST  # whose string each has one byte more than; below 0, a byte: none's
    chained = np.flatnonzero(before >= 0)
    if (before.take(chained) >= chained).any():
        raise ValueError("a code that is not in its table")
    total, lengths = len(codes), np.ones(len(codes), np.intp)
    while len(chained):
        ahead = before.take(chained)
        reach = lengths.take(ahead)
        total += int(reach.sum())
        lengths[chained] += reach
        before[chained] = onward = before.take(ahead)
        chained = chained[onward >= 0]
    return total

"""How many scans a JPEG has (ITU-T T.81, B.2): a decoder works on all pixels for each, and one may have only 10 bytes."""

from __future__ import annotations

import re

from ..errors import InputError

MAX_SCANS = 100  # as libtiff and GDAL allow by default; libjpeg writes 10 for colors
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # with a length; not a byte of pixels, a restart or padding
EOI, SOS = 0xD9, 0xDA


def check(data: bytes) -> None:
    """Raises `InputError` for a JPEG of more than `MAX_SCANS` scans; libtiff refuses those within a TIFF."""
    scans, at = 0, 2
    while (found := MARKER.search(data, at)) and data[found.start() + 1] != EOI:
        at = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
        scans += data[found.start() + 1] == SOS
        if scans > MAX_SCANS:
            raise InputError(f"the JPEG has more than {MAX_SCANS} scans. Save it again as PNG in a program that opens it.")

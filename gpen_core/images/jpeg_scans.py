"""Limit on a JPEG's scans (ITU-T T.81, B.2). A scan can have 10 bytes, but decoders process all pixels for each one."""

from __future__ import annotations

import re

from ..errors import InputError

MAX_SCANS = 100  # default of libtiff and GDAL; libjpeg writes 10 for color
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # has a length: no pixel data, restart marker or padding
EOI, SOS = 0xD9, 0xDA


def check(data: bytes) -> None:
    """Raise `InputError` for a JPEG with more than `MAX_SCANS` scans. Inside a TIFF, libtiff refuses them."""
    scans, at = 0, 2
    while (found := MARKER.search(data, at)) and data[found.start() + 1] != EOI:
        at = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
        scans += data[found.start() + 1] == SOS
        if scans > MAX_SCANS:
            raise InputError(f"the JPEG has more than {MAX_SCANS} scans. Save it again as PNG in a program that opens it.")

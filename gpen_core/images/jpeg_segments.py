"""Writing JPEG segments, and those that are copied to a new file: extended XMP and Photoshop's resources."""

from __future__ import annotations

import struct

from PIL import Image

from .photoshop import without_thumbnail

EXTENDED_XMP, RESOURCES = b"http://ns.adobe.com/xmp/extension/\x00", b"Photoshop 3.0\x00"
MARKERS = {"APP1": b"\xe1", "APP13": b"\xed", "COM": b"\xfe"}
MARKER_LIMIT = 65533  # payload of one marker


def jpeg_segment(name: str, payload: bytes) -> bytes:
    return b"\xff" + MARKERS[name] + struct.pack(">H", 2 + len(payload)) + payload


def copied_segments(image: Image.Image) -> bytes:
    """Return the segments of a JPEG with extended XMP and IPTC captions; Photoshop's resources without their thumbnail."""
    segments = getattr(image, "applist", [])
    extended = [jpeg_segment(name, data) for name, data in segments if name == "APP1" and data.startswith(EXTENDED_XMP)]
    parts = (data[len(RESOURCES) :] for name, data in segments if name == "APP13" and data.startswith(RESOURCES))
    resources, step = without_thumbnail(b"".join(parts)), MARKER_LIMIT - len(RESOURCES)
    split = (resources[at : at + step] for at in range(0, len(resources), step))
    return b"".join((*extended, *(jpeg_segment("APP13", RESOURCES + part) for part in split)))

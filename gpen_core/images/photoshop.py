"""Photoshop's image resources, which a JPEG has in APP13 segments and a TIFF in a tag (Adobe Photoshop File Formats
Specification, "Image Resources Section")."""

from __future__ import annotations

RESOURCES_TAG = 34377
THUMBNAILS = (1033, 1036)  # of Photoshop 4, and of newer versions


def without_thumbnail(resources: bytes) -> bytes:
    """Return the resources without the thumbnail, which would show the old image. From damage on, nothing is removed."""
    kept, at = [], 0
    while resources[at : at + 4] == b"8BIM" and at + 7 <= len(resources):
        number, name_length = int.from_bytes(resources[at + 4 : at + 6], "big"), resources[at + 6]
        size_at = at + 7 + name_length + (name_length + 1) % 2  # a name and its length have an even number of bytes
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size
        if end > len(resources):
            break
        end += size % 2
        if number not in THUMBNAILS:
            kept.append(resources[at:end])
        at = end
    return b"".join((*kept, resources[at:]))

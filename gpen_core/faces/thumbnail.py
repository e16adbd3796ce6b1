"""Small pictures of faces, upright and centered."""

from __future__ import annotations

from ..images.image import RGB8, ImageData, to_uint8
from .align import align_face, crop_face
from .face import Landmarks

THUMBNAIL_SIZE = 160  # px


def face_thumbnail(image: ImageData, landmarks: Landmarks, template: str) -> RGB8 | None:
    """Return a face of an image, aligned with a margin, [160, 160, 3] RGB.

    None if the landmarks [5, 2], in pixels of the image, cannot be aligned or the face is outside the image."""
    alignment = align_face(landmarks, THUMBNAIL_SIZE, template)
    if isinstance(alignment, str) or alignment.source_region(*image.size).empty:
        return None
    return to_uint8(crop_face(image, alignment))

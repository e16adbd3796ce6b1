"""What to say of an image in which no face was found."""

from __future__ import annotations

from ..faces.detection.pyramid import SCALE_RANGE

NO_FACE = "no face found"
MIN_SIZE = min(one.min_size for one in SCALE_RANGE.values())


def no_face_advice(smallest: float, largest: float) -> str:
    """Which faces could have been found, by the shorter sides of their boxes in pixels, and what to try."""
    return f"faces of about {smallest:,.0f} to {largest:,.0f} px can be found there: {what_to_try(smallest)}"


def what_to_try(smallest: float) -> str:
    """As `no_face_advice`, without the sizes."""
    is_downscaled = smallest >= 1.1 * MIN_SIZE
    return "try a lower confidence" + (", or a larger detection size for smaller faces" if is_downscaled else "")

"""Texts for images without a detected face."""

from __future__ import annotations

from ..faces.detection.pyramid import SCALE_RANGE

NO_FACE = "no face found"
MIN_SIZE = SCALE_RANGE.min_size


def no_face_advice(smallest: float, largest: float) -> str:
    """Return the detectable sizes (shorter side of the box in pixels) and advice on what to try."""
    if largest < smallest:
        return f"detectable faces: about {smallest:,.0f} px or more, and the image is smaller"
    return f"detectable faces: about {smallest:,.0f} to {largest:,.0f} px. Try {_suggestions(smallest)}"


def what_to_try(smallest: float) -> str:
    """Return the advice without the sizes."""
    return f"try {_suggestions(smallest)}"


def _suggestions(smallest: float) -> str:
    is_downscaled = smallest >= 1.1 * MIN_SIZE
    return "a lower confidence" + (", or a larger detection size for smaller faces" if is_downscaled else "")

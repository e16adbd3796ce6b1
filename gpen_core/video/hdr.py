"""Passes static HDR metadata of a video to encoders: mastering display and light levels (SMPTE ST 2086, CTA-861.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .containers import side_data

Point = tuple[Fraction, Fraction]
ENCODER_PARAMETERS: dict[str, tuple[str, str, str, int | None, int | None]] = {
    "libx265": ("x265-params", "master-display", "max-cll", 50000, 10000),
    "libx264": ("x264-params", "mastering-display", "cll", 50000, 10000),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", None, None),
}
"""By encoder: FFmpeg's option, the names of display and light levels in it, and its steps per 1 of chromaticity and per
cd/m2; None for decimals."""


@dataclass(frozen=True)
class Mastering:
    """Static HDR metadata."""

    display: tuple[Point, Point, Point, Point, Point] | None = None
    """Red, green, blue and white as x and y of CIE 1931, then the maximum and minimum luminance in cd/m2."""
    light: tuple[int, int] | None = None
    """Maximum luminance of a pixel, and maximum average luminance of a frame, in cd/m2."""

    def encoder_options(self, encoder: str) -> dict[str, str]:
        """Return an encoder's options for the metadata; none if the encoder has no such options."""
        if encoder not in ENCODER_PARAMETERS:
            return {}
        option, display, light, chromaticity_units, luminance_units = ENCODER_PARAMETERS[encoder]
        formatted = []
        if self.display is not None:
            red, green, blue, white, levels = self.display
            named = zip(
                ("G", "B", "R", "WP", "L"), (green, blue, red, white, levels), (*[chromaticity_units] * 4, luminance_units)
            )
            formatted.append(f"{display}=" + "".join(f"{name}({_format_pair(pair, units)})" for name, pair, units in named))
        if self.light is not None:
            formatted.append(f"{light}={self.light[0]},{self.light[1]}")
        return {option: ":".join(formatted)} if formatted else {}


NO_MASTERING = Mastering()


def _format_pair(pair: Point, units: int | None) -> str:
    return ",".join(f"{float(one):.4f}" if units is None else str(round(one * units)) for one in pair)


def read_mastering(frame: Any) -> Mastering:
    """Read a PyAV frame's side data (FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata)."""
    display: tuple[Point, ...] | None = None
    light = None
    if (data := side_data(frame, "MASTERING_DISPLAY_METADATA")) is not None:
        numbers = struct.unpack("=22i", data[:88])
        if all(numbers[20:]) and all(numbers[1:20:2]):
            values = [Fraction(numbers[n], numbers[n + 1]) for n in range(0, 20, 2)]
            low, high = values[8:]
            display = (*zip(values[0:8:2], values[1:8:2]), (high, low))
    if (data := side_data(frame, "CONTENT_LIGHT_LEVEL")) is not None:
        light = struct.unpack("=2I", data[:8])
    return Mastering(display, light)  # type: ignore[arg-type]

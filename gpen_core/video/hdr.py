"""Passes static HDR metadata of a video to encoders: mastering display and light levels (SMPTE ST 2086, CTA-861.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .containers import side_data

Point = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Mastering:
    """Static HDR metadata."""

    display: tuple[Point, Point, Point, Point, Point] | None = None
    """Red, green, blue and white as x and y of CIE 1931, then the maximum and minimum luminance in cd/m2."""
    light: tuple[int, int] | None = None
    """Maximum luminance of a pixel, and maximum average luminance of a frame, in cd/m2."""

    def encoder_options(self, encoder: str) -> dict[str, str]:
        """Return an encoder's options for the metadata; none if the encoder has no such options."""
        if encoder == "libx265":
            return _as_option("x265-params", self._format_fields("master-display", "max-cll", 50000, 10000))
        if encoder == "libx264":
            return _as_option("x264-params", self._format_fields("mastering-display", "cll", 50000, 10000))
        if encoder == "libsvtav1":
            return _as_option("svtav1-params", self._format_fields("mastering-display", "content-light", None, None))
        return {}

    def _format_fields(
        self, display: str, light: str, chromaticity_units: int | None, luminance_units: int | None
    ) -> list[str]:
        formatted = []
        if self.display is not None:
            red, green, blue, white, levels = self.display
            named = zip(
                ("G", "B", "R", "WP", "L"), (green, blue, red, white, levels), (*[chromaticity_units] * 4, luminance_units)
            )
            formatted.append(f"{display}=" + "".join(f"{name}({_format_pair(pair, units)})" for name, pair, units in named))
        if self.light is not None:
            formatted.append(f"{light}={self.light[0]},{self.light[1]}")
        return formatted


NO_MASTERING = Mastering()


def _format_pair(pair: Point, units: int | None) -> str:
    return ",".join(f"{float(one):.4f}" if units is None else str(round(one * units)) for one in pair)


def _as_option(option: str, values: list[str]) -> dict[str, str]:
    return {option: ":".join(values)} if values else {}


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

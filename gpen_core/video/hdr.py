"""What an HDR film says of the display it was made on and of its light (SMPTE ST 2086, CTA-861.3), for encoders."""

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
    """Red, green, blue and white as x and y of CIE 1931, then the most and the least light in cd/m2."""
    light: tuple[int, int] | None = None
    """The brightest pixel and the brightest frame on average, in cd/m2."""

    def options(self, encoder: str) -> dict[str, str]:
        """An encoder's options that say so; of those that have such."""
        if encoder == "libx265":
            return _joined("x265-params", self._said("master-display", "max-cll", 50000, 10000))
        if encoder == "libsvtav1":
            return _joined("svtav1-params", self._said("mastering-display", "content-light", None, None))
        return {}

    def _said(self, display: str, light: str, points: int | None, lights: int | None) -> list[str]:
        said = []
        if self.display is not None:
            red, green, blue, white, levels = self.display
            named = zip(("G", "B", "R", "WP", "L"), (green, blue, red, white, levels), (*[points] * 4, lights))
            said.append(f"{display}=" + "".join(f"{name}({_pair(pair, units)})" for name, pair, units in named))
        if self.light is not None:
            said.append(f"{light}={self.light[0]},{self.light[1]}")
        return said


NOTHING_SAID = Mastering()


def _pair(pair: Point, units: int | None) -> str:
    return ",".join(f"{float(one):.4f}" if units is None else str(round(one * units)) for one in pair)


def _joined(option: str, said: list[str]) -> dict[str, str]:
    return {option: ":".join(said)} if said else {}


def mastering_of(frame: Any) -> Mastering:
    """A PyAV frame's side data (FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata)."""
    display: tuple[Point, ...] | None = None
    light = None
    if (said := side_data(frame, "MASTERING_DISPLAY_METADATA")) is not None:
        numbers = struct.unpack("=22i", said[:88])
        if all(numbers[20:]) and all(numbers[1:20:2]):
            values = [Fraction(numbers[n], numbers[n + 1]) for n in range(0, 20, 2)]
            low, high = values[8:]
            display = (*zip(values[0:8:2], values[1:8:2]), (high, low))
    if (said := side_data(frame, "CONTENT_LIGHT_LEVEL")) is not None:
        light = struct.unpack("=2I", said[:8])
    return Mastering(display, light)  # type: ignore[arg-type]

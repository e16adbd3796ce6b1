"""Converts the timestamps of copied packets to the clock of their new stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .containers import to_fraction

TS_NONSTRICT = 0x20000  # AVFMT_TS_NONSTRICT: the container accepts packets with equal decoding timestamps


@dataclass
class CopyClock:
    """The clock of one copied stream. Use it after the header is written, because the container chooses the clock."""

    time_base: Fraction
    min_step: int
    """Ticks between two packets: 0 if they may have the same time."""
    is_audio: bool
    _last: int | None = field(default=None, init=False)

    @classmethod
    def of(cls, stream: Any) -> CopyClock:
        """Return the clock of an output's stream.

        Subtitles may be shown together, such as the layers of a sign. TrueHD has more than one packet per millisecond, so in
        Matroska some have the same time."""
        has_equal_times = stream.type == "subtitle" or bool(int(stream.container.format.flags) & TS_NONSTRICT)
        return cls(to_fraction(stream.time_base), 0 if has_equal_times else 1, stream.type == "audio")

    def convert(self, packet: Any, offset: Fraction) -> None:
        """Convert a packet's timestamps, and add `offset` seconds. Decoding timestamps do not fall.

        The packet needs a timestamp, of either kind."""
        own = packet.pts if packet.dts is None else packet.dts
        dts, duration = self._ticks(own, packet, offset), self._ticks(packet.duration or 0, packet)
        if self._last is not None:
            dts = max(dts, self._last + self.min_step)
            if self.is_audio and not duration:  # MP4's edit list would end before the last packet
                duration = dts - self._last
        packet.pts = dts if packet.pts is None else max(self._ticks(packet.pts, packet, offset), dts)
        packet.dts, packet.duration, packet.time_base = dts, duration, self.time_base
        self._last = dts

    def _ticks(self, ticks: int, packet: Any, offset: Fraction = Fraction(0)) -> int:
        return round((ticks * to_fraction(packet.time_base) + offset) / self.time_base)

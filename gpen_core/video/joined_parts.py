"""Recordings joined end to end, as by `cat a.ts b.ts`: timestamps jump where the next part begins.

Each part follows the one before it, and all its streams are shifted alike. The video decides where a part begins, as a step
of its timestamps that FFmpeg's own program takes for a discontinuity, too (`-dts_delta_threshold`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .probe import VideoInfo

MAX_STEP_BACK, MAX_STEP = Fraction(1, 10), Fraction(10)  # seconds between two packets of one part


@dataclass(frozen=True)
class Part:
    """A part after the first."""

    offset: Fraction
    """Added to timestamps, in seconds."""
    start: Fraction
    """The first decoding timestamp after that, in seconds."""
    position: int
    """Of the first packet of the video, in bytes."""
    previous_position: int
    """Of the last packet of the video in the part before."""


@dataclass
class JoinedParts:
    """Makes the timestamps of a video rise over all parts, packet by packet from the first on."""

    info: VideoInfo
    parts: list[Part] = field(default_factory=list)
    _last: Fraction | None = None
    """The last decoding timestamp in seconds, shifted."""
    _position: int = 0
    _positions: dict[int, int] = field(default_factory=dict)
    """The last known position of each copied stream's packets."""

    def shift_video(self, packet: Any) -> bool:
        """Shift a packet of the video. If it begins a part, the part is added. Return whether it does."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not self.info.may_be_joined or ticks is None:
            return False
        seconds, offset = ticks * packet.time_base, self.parts[-1].offset if self.parts else Fraction(0)
        position = self._position if packet.pos is None else packet.pos
        last = seconds + offset if self._last is None else self._last
        begins = not -MAX_STEP_BACK <= seconds + offset - last <= MAX_STEP
        if begins:
            start = last + self.info.frame_duration
            offset = round((start - seconds) / packet.time_base) * packet.time_base
            self.parts.append(Part(offset, seconds + offset, position, self._position))
        self._last, self._position = seconds + offset, position
        _shift(packet, offset)
        return begins

    def shift_copied(self, packet: Any) -> None:
        """Shift a packet of another stream after all packets of the video were seen.

        Between the video's last packet of a part and its first of the next, a packet may belong to either."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not self.parts or ticks is None:
            return
        last = self._positions.get(packet.stream_index, 0)
        position = self._positions[packet.stream_index] = last if packet.pos is None else packet.pos
        offset = Fraction(0)
        for part in self.parts:
            if position < part.previous_position:
                break
            distances = [abs(ticks * packet.time_base + one - part.start) for one in (offset, part.offset)]
            if position >= part.position or distances[1] < distances[0]:
                offset = part.offset
        _shift(packet, offset)


def _shift(packet: Any, offset: Fraction) -> None:
    ticks = round(offset / packet.time_base)
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks

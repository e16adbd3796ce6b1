"""The result of restoring a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..faces.identity import StrengthTrial
from ..progress import pluralize
from .analysis import VideoAnalysis
from .probe import VideoInfo
from .temporal_filter import FlickerMetric
from .track import Track


@dataclass(frozen=True, eq=False)
class TrackOutcome:
    """The result for one face of the video."""

    track: Track
    reason: str | None
    """Why it was skipped, or None."""
    network: int | None = None
    """Resolution of the network that restored it (px)."""
    frames: int = 0
    """Number of frames in which it was restored."""
    flicker_before: FlickerMetric = field(default_factory=FlickerMetric)
    """Difference of consecutive frames of the restored face along the flow, before the filter."""
    flicker_after: FlickerMetric = field(default_factory=FlickerMetric)
    """The same after the filter."""
    trial: StrengthTrial | None = None
    """Its strength and identity, if the option `min_identity` is set and a frame was usable."""

    def __repr__(self) -> str:
        outcome = f"restored in {self.frames} frames" if self.frames else f"skipped: {self.reason}"
        return f"TrackOutcome({self.track.number}, {outcome})"


@dataclass(frozen=True, eq=False)
class VideoResult:
    """The result of `restore_video`."""

    info: VideoInfo
    target: Path
    analysis: VideoAnalysis
    tracks: tuple[TrackOutcome, ...]
    restored: tuple[tuple[int, ...], ...]
    """For each frame, the numbers of the restored tracks."""
    seconds: dict[str, float]
    """Seconds by stage, of its own thread. Stages overlap."""
    notes: tuple[str, ...]
    segments: tuple[int, int]
    """Number of segments, and how many of them an earlier run finished."""

    def __repr__(self) -> str:
        return f"VideoResult({str(self.target)!r}, {self.summary})"

    @property
    def summary(self) -> str:
        """One line, such as `48 frames, 3 people: 2 restored, 1 skipped`. A person may have several tracks."""
        people = {one.track.person for one in self.tracks}
        restored = {one.track.person for one in self.tracks if one.frames}
        return f"{pluralize(len(self.restored), 'frame')}, {people_count_text(len(people), len(restored))}"


def people_count_text(count: int, restored: int) -> str:
    """`3 people: 2 restored, 1 skipped`, or `no people`."""
    if not count:
        return "no people"
    return f"{pluralize(count, 'person', 'people')}: {restored:,} restored, {count - restored:,} skipped"

"""What became of a video and of the faces in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..faces.face import faces_text
from ..progress import pluralize
from .analysis import VideoAnalysis
from .probe import VideoInfo
from .temporal_filter import FlickerMetric
from .track import Track


@dataclass(frozen=True, eq=False)
class TrackOutcome:
    """What became of one face of the video."""

    track: Track
    reason: str | None
    """Why it was left alone."""
    network: int | None = None
    """Side in pixels of the network that restored it."""
    frames: int = 0
    """In how many it was restored."""
    flicker_before: FlickerMetric = field(default_factory=FlickerMetric)
    """How far following frames of the restored face differ along what moves, each restored by itself."""
    flicker_after: FlickerMetric = field(default_factory=FlickerMetric)
    """The same as it was written."""

    def __repr__(self) -> str:
        outcome = f"restored in {self.frames} frames" if self.frames else f"skipped: {self.reason}"
        return f"TrackOutcome({self.track.number}, {outcome})"


@dataclass(frozen=True, eq=False)
class VideoResult:
    """What became of a video."""

    info: VideoInfo
    target: Path
    analysis: VideoAnalysis
    tracks: tuple[TrackOutcome, ...]
    restored: tuple[tuple[int, ...], ...]
    """Of each frame: the numbers of the tracks that were restored in it."""
    seconds: dict[str, float]
    """By stage: of the thread that it ran in. Stages overlap."""
    notes: tuple[str, ...]
    segments: tuple[int, int]
    """How many there were, and how many of them an earlier run had finished."""

    def __repr__(self) -> str:
        return f"VideoResult({str(self.target)!r}, {self.summary})"

    @property
    def summary(self) -> str:
        """One line for people: `48 frames, 3 faces followed, 2 restored, 1 skipped`."""
        restored = sum(track.frames > 0 for track in self.tracks)
        return f"{pluralize(len(self.restored), 'frame')}, {faces_text(len(self.tracks), restored, 'followed')}"

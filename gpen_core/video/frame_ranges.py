"""The parts of a video that are restored, if the rest is kept as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..options import VideoOptions, range_text
from .analysis import FrameLike, VideoAnalysis
from .probe import VideoInfo
from .temporal_filter import RADIUS
from .track import Track, fade_weight

MARGIN_SECONDS = 1.0  # around a range, where faces are tracked, too; longer than fades, and than short false positives


@dataclass(frozen=True, eq=False)
class FrameRanges:
    """Frames that are restored, of a video with `analysis`. A face fades in and out at their ends, except at cuts."""

    ranges: tuple[range, ...]
    analysis: VideoAnalysis

    @classmethod
    def from_options(cls, video: VideoOptions, info: VideoInfo, analysis: VideoAnalysis) -> FrameRanges | None:
        """Return the frames of `video.ranges`, or None if there are no ranges. Raises `InputError` if one has no frame."""
        if not video.ranges:
            return None
        ranges = []
        for start, end in video.ranges:
            first, stop = (int(np.searchsorted(analysis.pts, info.pts_at(seconds))) for seconds in (start, end))
            if first == stop:
                seconds = info.seconds_at(int(analysis.pts[max(0, first - 1)]))
                before = f"{'last' if first == analysis.frame_count else 'previous'} frame is at {seconds:.3f} s"
                raise InputError(f"{info.path} has no frame in the range {range_text(start, end)}: its {before}.")
            ranges.append(range(first, stop))
        return cls(tuple(ranges), analysis)

    def weight(self, number: int, rate: float) -> float:
        """Return the weight of restored faces in frame `number`, from 0 to 1. `rate`: frames per second."""
        cuts, count = self.analysis.cuts, self.analysis.frame_count
        return max(
            fade_weight(
                number, one, rate, one.start > 0 and one.start not in cuts, one.stop < count and one.stop not in cuts
            )
            for one in self.ranges
        )

    def is_near(self, number: int, distance: int) -> bool:
        """Whether a frame is in a range, or at most `distance` frames away from one."""
        return any(one.start - distance <= number < one.stop + distance for one in self.ranges)

    def contains(self, track: Track) -> bool:
        """Whether a track has frames in a range."""
        return any(track.first < one.stop and track.last >= one.start for one in self.ranges)


def needs_detection(video: VideoOptions, info: VideoInfo, rate: float) -> Callable[[FrameLike], bool]:
    """Return a function that says whether faces must be detected in a frame: in and around ranges, or everywhere.

    `rate`: frames per second."""
    margin = max(MARGIN_SECONDS, (RADIUS + 1) / rate)
    near = [(info.pts_at(start - margin), info.pts_at(end + margin)) for start, end in video.ranges]
    return lambda frame: not near or any(first <= frame.pts < stop for first, stop in near)

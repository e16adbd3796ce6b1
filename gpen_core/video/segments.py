"""The segments of a video in the making, and processes that make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..files.atomic_write import write_bytes
from .frame_folder import staging_folder

MIN_SEGMENT_SECONDS, MAX_SEGMENT_SECONDS = 2.0, 5.0  # seconds of a segment: it ends at a cut, if there is one


class SegmentResult(NamedTuple):
    """A segment that lies in the work folder."""

    number: int
    folder_name: str
    """The folder in it, see `WorkDir.subfolder`."""
    seconds: dict[str, float]
    """By stage."""


class SegmentExecutor(Protocol):
    """Has a video's segments restored by other processes, each by a `SegmentRestorer`."""

    def __call__(self, analysis_key: str, count: int, on_finished: Callable[[SegmentResult], None]) -> None:
        """Once the first pass is in the work folder, under this key: returns when `on_finished` was called, in this thread,
        for each of so many segments, in any order. Raises what keeps one from being made."""


class SegmentStore:
    """The segments in the work folder: of each its video, and what became of its faces."""

    def __init__(self, folder: Path, ranges: Sequence[range]) -> None:
        self.folder, self.ranges = folder, ranges
        self.files = [folder / f"{n:06d}.part" for n in range(len(ranges))]
        self.reports = [folder / f"{n:06d}.json" for n in range(len(ranges))]

    def missing(self) -> list[int]:
        return [n for n in range(len(self.ranges)) if self.is_missing(n)]

    def is_missing(self, n: int) -> bool:
        """Whether it is to be restored: it was never finished, or its frames are neither in it nor staged any more."""
        return not self.reports[n].exists() or not (self.files[n].exists() or staging_folder(self.folder).exists())

    def write_report(self, n: int, content: dict[str, Any]) -> None:
        """That a segment is finished, and what became of its faces. Raises `OutputError`."""
        write_bytes(self.reports[n], json.dumps(content).encode())

    def read_report(self, n: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.reports[n].read_bytes())
        return content


def segment_ranges(count: int, cuts: Sequence[int], rate: float) -> list[range]:
    """The frames of each segment: as many as are shown in five seconds, or up to a cut after two and more."""
    min_frames, max_frames = max(1, round(MIN_SEGMENT_SECONDS * rate)), max(1, round(MAX_SEGMENT_SECONDS * rate))
    out: list[range] = []
    first = 0
    while first < count:
        ends = [cut for cut in cuts if first + min_frames <= cut <= first + max_frames]
        last = min(ends[-1] if ends else first + max_frames, count)
        out.append(range(first, last))
        first = last
    return out

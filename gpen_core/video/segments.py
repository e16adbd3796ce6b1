"""The segments of an unfinished video, and the interface of processes that restore them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..files.atomic_write import write_bytes
from .frame_folder import staging_folder

MIN_SEGMENT_SECONDS, MAX_SEGMENT_SECONDS = 2.0, 5.0  # a segment ends at a cut between these, if there is one


class SegmentResult(NamedTuple):
    """A finished segment in the work folder."""

    number: int
    folder_name: str
    """Name of its subfolder, see `WorkDir.subfolder`."""
    seconds: dict[str, float]
    """Seconds by stage."""


class SegmentExecutor(Protocol):
    """Lets other processes restore a video's segments, each with a `SegmentRestorer`."""

    def __call__(self, analysis_key: str, count: int, on_finished: Callable[[SegmentResult], None]) -> None:
        """Restore `count` segments after the first pass was saved in the work folder under `analysis_key`.

        Calls `on_finished` in this thread for each segment, in any order, and returns after the last. Raises the error of
        a segment that fails."""


class SegmentStore:
    """The segments in the work folder: the video of each, and a report about its faces."""

    def __init__(self, folder: Path, ranges: Sequence[range]) -> None:
        self.folder, self.ranges = folder, ranges
        self.files = [folder / f"{n:06d}.part" for n in range(len(ranges))]
        self.reports = [folder / f"{n:06d}.json" for n in range(len(ranges))]

    def missing(self) -> list[int]:
        return [n for n in range(len(self.ranges)) if self.is_missing(n)]

    def is_missing(self, n: int) -> bool:
        """Whether a segment must be restored: it is unfinished or damaged, and its frames are not staged."""
        try:
            size = self.read_report(n)["bytes"]
        except (OSError, ValueError, KeyError):
            return True
        return size != self._size(n) and not staging_folder(self.folder).exists()

    def write_report(self, n: int, content: dict[str, Any]) -> None:
        """Write the report about its faces, which marks the segment as finished. Raises `OutputError`."""
        write_bytes(self.reports[n], json.dumps({**content, "bytes": self._size(n)}).encode())

    def read_report(self, n: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.reports[n].read_bytes())
        return content

    def _size(self, n: int) -> int:
        """Return the bytes of a segment, which is a file or a folder of images, or 0 if there is none."""
        path = self.files[n]
        return sum(one.stat().st_size for one in (path.iterdir() if path.is_dir() else [path]) if one.exists())


def segment_ranges(count: int, cuts: Sequence[int], rate: float) -> list[range]:
    """Return the frames of each segment: five seconds, or up to the last cut after at least two seconds."""
    min_frames, max_frames = max(1, round(MIN_SEGMENT_SECONDS * rate)), max(1, round(MAX_SEGMENT_SECONDS * rate))
    out: list[range] = []
    first = 0
    while first < count:
        ends = [cut for cut in cuts if first + min_frames <= cut <= first + max_frames]
        last = min(ends[-1] if ends else first + max_frames, count)
        out.append(range(first, last))
        first = last
    return out

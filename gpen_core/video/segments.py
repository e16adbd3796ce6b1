"""The segments of a film in the making, and processes that make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..files.atomic_write import write_bytes
from .frame_folder import staged_in


class Finished(NamedTuple):
    """A segment that lies in the work folder."""

    number: int
    part: str
    """The folder in it, see `Work.part`."""
    seconds: dict[str, float]
    """By stage."""


class Elsewhere(Protocol):
    """Has a film's segments restored by other processes, each by a `SegmentRestorer`."""

    def __call__(self, found_key: str, count: int, finished: Callable[[Finished], None]) -> None:
        """Once the first pass is in the work folder, under this key: returns when `finished` was called, in this thread, for
        each of so many segments, in any order. Raises what keeps one from being made."""


class Parts:
    """The segments in the work folder: of each its film, and what became of its faces."""

    def __init__(self, folder: Path, ranges: Sequence[range]) -> None:
        self.folder, self.ranges = folder, ranges
        self.files = [folder / f"{n:06d}.part" for n in range(len(ranges))]
        self.reports = [folder / f"{n:06d}.json" for n in range(len(ranges))]

    def missing(self) -> list[int]:
        return [n for n in range(len(self.ranges)) if self.is_missing(n)]

    def is_missing(self, n: int) -> bool:
        """Whether it is to be restored: it was never finished, or its frames are neither in it nor staged any more."""
        return not self.reports[n].exists() or not (self.files[n].exists() or staged_in(self.folder).exists())

    def tell(self, n: int, content: dict[str, Any]) -> None:
        """That a segment is finished, and what became of its faces. Raises `OutputError`."""
        write_bytes(self.reports[n], json.dumps(content).encode())

    def told(self, n: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.reports[n].read_bytes())
        return content

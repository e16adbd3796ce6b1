"""Results of `gpen restore` on stdout: a line per image if there are few, else a line per 20 images, and a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..progress import pluralize
from .report_text import image_lines, reasons_text, seconds_text, statuses_text

if TYPE_CHECKING:
    from ..batch.summary import Summary
    from ..pipeline.report import ImageOutcome

GROUP_SIZE = 20  # images
MAX_NAMES = 3


class RunSummary:
    """Counts the outcomes of a run of `count` images and prints them through `write`, one line per call.

    `destination` is the end of a sentence, such as `to restored` or `in place`. Memory does not grow with the number of
    images."""

    def __init__(self, write: Callable[[str], None], count: int, destination: str) -> None:
        self._write = write
        self._count = count
        self._destination = destination
        self._start = self._group_start = time.monotonic()
        self._total, self._group = _new_summary(), _new_summary()
        self._without_face: list[str] = []
        self._without_face_count = 0
        self._sizes = (float("inf"), 0.0)

    def add(self, outcome: ImageOutcome) -> None:
        """Count a finished image."""
        row = outcome.to_json()
        self._total.add_image(row)
        self._group.add_image(row)
        self._note_size_range(row)
        if self._count <= GROUP_SIZE:
            is_only = self._count == 1
            seconds = time.monotonic() - self._start if is_only else sum(outcome.seconds.values())
            for line in image_lines(row, seconds):
                self._write(line)
        elif self._group.statuses.total() == GROUP_SIZE or self._done == self._count:
            self._write_group()

    def end(self) -> None:
        """Print the summary of all images, also if the run ended early."""
        if self._count > 1 and self._done:
            for line in self._total_lines():
                self._write(line)
        for line in self._no_face_lines():
            self._write(line)

    @property
    def _done(self) -> int:
        return self._total.statuses.total()

    def _write_group(self) -> None:
        now = time.monotonic()
        first = self._done - self._group.statuses.total() + 1
        which = f"{first:,} to {self._done:,}" if first < self._done else f"{first:,}"
        counts = "; ".join([statuses_text(self._group.statuses), *_faces_texts(self._group)])
        self._write(f"images {which} of {self._count:,}: {counts} ({seconds_text(now - self._group_start)})")
        self._group, self._group_start = _new_summary(), now

    def _total_lines(self) -> Iterator[str]:
        done = "" if self._done == self._count else f"{self._done:,} of "
        took = seconds_text(time.monotonic() - self._start)
        statuses = statuses_text(self._total.statuses)
        yield f"{done}{pluralize(self._count, 'image')} in {took}: {statuses}, {self._destination}"
        yield from _faces_texts(self._total)

    def _no_face_lines(self) -> Iterator[str]:
        from ..pipeline.no_face import no_face_advice

        if not self._without_face_count:
            return
        advice = no_face_advice(*self._sizes)
        if self._count == 1:
            yield f"  {advice}"
            return
        names = ", ".join(self._without_face) + (", ..." if self._without_face_count > MAX_NAMES else "")
        yield f"no face found in {pluralize(self._without_face_count, 'image')} ({names})"
        yield f"  {advice}"

    def _note_size_range(self, row: dict[str, Any]) -> None:
        if row.get("faces") or "smallest_face_px" not in row:
            return
        self._without_face_count += 1
        if len(self._without_face) < MAX_NAMES:
            self._without_face.append(row["input"])
        own = (row["smallest_face_px"], row["largest_face_px"])
        if self._sizes[0] > self._sizes[1]:  # none yet, or those of an image that is smaller than any face
            self._sizes = own
            return
        smallest, largest = max(self._sizes[0], own[0]), min(self._sizes[1], own[1])
        if smallest <= largest:  # detectable in all of these images
            self._sizes = smallest, largest


def _new_summary() -> Summary:
    from ..batch.summary import Summary

    return Summary()


def _faces_texts(summary: Summary) -> Iterator[str]:
    """Yield the number of faces, unless no image was finished: how many faces are in the others is unknown."""
    from ..faces.face import faces_text

    if summary.finished:
        reasons = reasons_text(summary.reasons)
        yield faces_text(summary.faces, summary.restored) + (f" ({reasons})" if reasons else "")

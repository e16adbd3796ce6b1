"""The words and figures in which the command line shows results: sizes, times, and the summary of several runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..progress import pluralize

if TYPE_CHECKING:
    from ..batch.summary import Summary


def bytes_text(size: int) -> str:
    """The exact size of a file: `1,234 bytes`."""
    return f"{size:,} bytes"


def gib_text(size: int) -> str:
    """A size of memory or of a disk: `1.5 GiB`."""
    return f"{size / 2**30:.1f} GiB"


def pixels_text(width: float, height: float) -> str:
    """`640x480 px`."""
    return f"{width:.0f}x{height:.0f} px"


def stages_text(seconds: Mapping[str, float]) -> str:
    """Seconds by stage: `detect 0.12 s, network 1,234.50 s`."""
    return ", ".join(f"{stage} {value:,.2f} s" for stage, value in seconds.items())


def summary_lines(summary: Summary, max_lines: int = 20) -> Iterator[str]:
    """The summary of several runs, a line each; of errors and reasons the `max_lines` frequent."""
    from ..faces.face import faces_text

    statuses = ", ".join(f"{number:,} {status}" for status, number in summary.statuses.most_common())
    image_count = pluralize(summary.statuses.total(), "image")
    yield f"{image_count} in {pluralize(summary.runs, 'run')}: {statuses or 'none'}"
    if summary.runs > summary.completed_runs:
        yield f"{pluralize(summary.runs - summary.completed_runs, 'run')} did not come to an end (killed, or still going)"
    yield faces_text(summary.faces, summary.restored)
    yield from _most_frequent("skipped", summary.reasons, max_lines)
    yield from _most_frequent("failed", summary.errors, max_lines)
    yield from _most_frequent("ended early", summary.failed_runs, max_lines)
    if summary.stages:
        yield f"time by stage: {stages_text(summary.stages)}"
    if summary.seconds > 0 and summary.processed:
        rate = summary.processed / summary.seconds
        yield f"{pluralize(summary.processed, 'image')} processed in {summary.seconds:,.1f} s: {rate:.3g} per second"
    for location in summary.damaged[:max_lines]:
        yield f"note: {location} is damaged and was left out"
    if len(summary.damaged) > max_lines:
        yield f"note: {len(summary.damaged) - max_lines:,} more damaged lines were left out"


def _most_frequent(label: str, texts: Counter[str], max_lines: int) -> Iterator[str]:
    shown = texts.most_common(max_lines)
    for text, number in shown:
        yield f"  {label}: {number:,} x {text}"
    rest = texts.total() - sum(number for _, number in shown)
    if rest:
        yield f"  {label}: {rest:,} for other reasons"

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


def summary_lines(summary: Summary, most: int = 20) -> Iterator[str]:
    """The summary of several runs, a line each; of errors and reasons the `most` frequent."""
    from ..faces.face import faces_text

    statuses = ", ".join(f"{number:,} {status}" for status, number in summary.statuses.most_common())
    pictures = pluralize(summary.statuses.total(), "picture")
    yield f"{pictures} in {pluralize(summary.runs, 'run')}: {statuses or 'none'}"
    if summary.runs > summary.ended:
        yield f"{pluralize(summary.runs - summary.ended, 'run')} did not come to an end (killed, or still going)"
    yield faces_text(summary.faces, summary.restored)
    yield from _most_frequent("skipped", summary.reasons, most)
    yield from _most_frequent("failed", summary.errors, most)
    yield from _most_frequent("ended early", summary.failed_runs, most)
    if summary.stages:
        yield f"time by stage: {stages_text(summary.stages)}"
    if summary.seconds > 0 and summary.worked_on:
        rate = summary.worked_on / summary.seconds
        yield f"{pluralize(summary.worked_on, 'picture')} processed in {summary.seconds:,.1f} s: {rate:.3g} per second"
    for place in summary.damaged[:most]:
        yield f"note: {place} is damaged and was left out"
    if len(summary.damaged) > most:
        yield f"note: {len(summary.damaged) - most:,} more damaged lines were left out"


def _most_frequent(what: str, texts: Counter[str], most: int) -> Iterator[str]:
    shown = texts.most_common(most)
    for text, number in shown:
        yield f"  {what}: {number:,} x {text}"
    rest = texts.total() - sum(number for _, number in shown)
    if rest:
        yield f"  {what}: {rest:,} for other reasons"

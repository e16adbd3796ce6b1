"""Texts of the command line for sizes, times, results and the summary of several runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..progress import pluralize

if TYPE_CHECKING:
    from ..batch.summary import Summary


STATUS_WORDS = {
    "restored": "restored",
    "enlarged": "upscaled only",
    "unchanged": "unchanged",
    "skipped": "skipped (their outputs exist)",
    "failed": "failed",
}
"""What a summary says for each `ImageOutcome.status`."""
MAX_FACE_LINES = 10


def bytes_text(size: int) -> str:
    """Format the exact size of a file: `1,234 bytes`."""
    return f"{size:,} bytes"


def pixels_text(width: float, height: float) -> str:
    """Format the size of an image: `640x480 px`."""
    return f"{width:.0f}x{height:.0f} px"


def clock_text(seconds: float) -> str:
    """Format a time in a video: `0:07.2`, `1:02:03.0`."""
    tenths = round(seconds * 10)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def stages_text(seconds: Mapping[str, float]) -> str:
    """Format seconds by stage: `detect 0.12 s, network 1,234.50 s`."""
    return ", ".join(f"{stage} {value:,.2f} s" for stage, value in seconds.items())


def summary_lines(summary: Summary, max_lines: int = 20) -> Iterator[str]:
    """Yield the lines of the summary of several runs, with the `max_lines` most frequent errors and reasons."""
    from ..faces.face import faces_text

    statuses = ", ".join(f"{number:,} {status}" for status, number in summary.statuses.most_common())
    image_count = pluralize(summary.statuses.total(), "image")
    yield f"{image_count} in {pluralize(summary.runs, 'run')}: {statuses or 'none'}"
    if summary.runs > summary.completed_runs:
        yield f"{pluralize(summary.runs - summary.completed_runs, 'run')} did not finish (killed, or still running)"
    if summary.finished:
        yield faces_text(summary.faces, summary.restored)
    yield from _most_frequent("skipped", summary.reasons, max_lines)
    yield from _most_frequent("failed", summary.errors, max_lines, summary.failed_names)
    yield from _most_frequent("ended early", summary.failed_runs, max_lines)
    if summary.stages:
        yield f"time by stage: {stages_text(summary.stages)}"
    if summary.seconds > 0 and summary.processed:
        rate = summary.processed / summary.seconds
        yield f"{pluralize(summary.processed, 'image')} processed in {summary.seconds:,.1f} s: {rate:.3g} per second"
    for location in summary.damaged[:max_lines]:
        yield f"note: {location} is damaged and was skipped"
    if len(summary.damaged) > max_lines:
        yield f"note: {len(summary.damaged) - max_lines:,} more damaged lines were skipped"


def image_lines(row: Mapping[str, Any], seconds: float) -> Iterator[str]:
    """Yield the lines about one image from its row of a report (`ImageOutcome.to_json`): the result, then the reasons why
    faces were skipped. A failed image has no lines, because its error was already printed."""
    from ..faces.face import faces_text
    from ..pipeline.no_face import NO_FACE

    status, output, faces = row["status"], row["output"], row.get("faces", ())
    if status == "failed":
        return
    if status == "skipped":
        yield f"{output}: skipped, it already exists"
        return
    found = faces_text(len(faces), sum(face["restored"] for face in faces)) if faces else NO_FACE
    if status == "enlarged":
        found += f", upscaled to {pixels_text(row['width'], row['height'])}"
    elif status == "unchanged":
        found += ", not changed" if output == row["input"] else ", written unchanged"
    yield f"{output}: {found} ({seconds_text(seconds)})"
    yield from _face_lines(faces)


def _face_lines(faces: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the reasons why faces were skipped, then the notes on restored faces."""
    yield from (f"  {line}" for line in skip_lines({n: f["reason"] for n, f in enumerate(faces) if not f["restored"]}))
    noted = {number: face["note"] for number, face in enumerate(faces) if face["restored"] and face["note"]}
    yield from (f"  face {number}: {note}" for number, note in list(noted.items())[:MAX_FACE_LINES])


def skip_lines(reasons: Mapping[int, str]) -> Iterator[str]:
    """Yield the reasons why faces were skipped. Faces with the same kind of reason share a line."""
    from ..batch.summary import reason_kind

    by_kind: dict[str, list[int]] = {}
    for number, reason in reasons.items():
        by_kind.setdefault(reason_kind(reason), []).append(number)
    for kind, numbers in list(by_kind.items())[:MAX_FACE_LINES]:
        if len(numbers) == 1:
            yield f"face {numbers[0]}: skipped, {reasons[numbers[0]]}"
        else:
            yield f"faces {number_ranges(numbers)}: skipped, {kind}"
    if len(by_kind) > MAX_FACE_LINES:
        rest = sum(map(len, list(by_kind.values())[MAX_FACE_LINES:]))
        yield f"{pluralize(rest, 'more face')} skipped for other reasons. Use --report to list them"


def number_ranges(numbers: Iterable[int]) -> str:
    """Format increasing numbers in the syntax of `--faces`: `0,2-4`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)


def seconds_text(seconds: float) -> str:
    """Format a duration: `3.2 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def statuses_text(statuses: Counter[str]) -> str:
    """Format counts of images: `25 restored, 3 unchanged, 2 failed`."""
    return ", ".join(f"{statuses[name]:,} {word}" for name, word in STATUS_WORDS.items() if statuses[name])


def reasons_text(reasons: Counter[str], max_reasons: int = 3) -> str:
    """Format the reasons for skipped faces: `4 not asked for, 2 smaller than the minimum`."""
    shown = reasons.most_common(max_reasons)
    rest = reasons.total() - sum(number for _, number in shown)
    return ", ".join([*(f"{number:,} {text}" for text, number in shown), *([f"{rest:,} for other reasons"] if rest else [])])


def _most_frequent(
    label: str, texts: Counter[str], max_lines: int, names: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Iterator[str]:
    """Yield a line for each of the most frequent texts, and below it the first of its inputs if there are `names`."""
    shown = texts.most_common(max_lines)
    for text, number in shown:
        yield f"  {label}: {number:,} x {text}"
        if first := names.get(text):
            yield f"    {', '.join(first)}{', ...' if number > len(first) else ''}"
    rest = texts.total() - sum(number for _, number in shown)
    if rest:
        yield f"  {label}: {rest:,} for other reasons"

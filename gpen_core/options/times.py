"""Times of a video and ranges of them, as users write them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from ..errors import OptionsError

TimeRange = tuple[float, float]
"""Start and end in seconds. The end is excluded."""


def parse_time(text: str) -> float:
    """Parse seconds, or minutes and hours before them: `83.5` or `1:23.5`. Raises `ValueError`."""
    parts = [float(part) for part in text.split(":")]
    if not 1 <= len(parts) <= 3 or any(not 0 <= part < math.inf for part in parts) or any(part >= 60 for part in parts[1:]):
        raise ValueError(text)
    return sum(part * 60.0**n for n, part in enumerate(reversed(parts)))


def parse_ranges(value: Any) -> tuple[TimeRange, ...]:
    """Parse ranges: text such as `10-20` or `1:05-1:20,2:00-2:10`, or a sequence of such texts and of pairs of seconds.

    They are sorted, and those that overlap or touch are merged. None: no ranges. Raises `OptionsError`."""
    ranges = sorted(_parse_parts(value))
    merged: list[TimeRange] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def range_text(start: float, end: float) -> str:
    """`10-20`, in seconds."""
    return f"{start:g}-{end:g}"


def _parse_parts(value: Any) -> Iterable[TimeRange]:
    if value is None:
        return
    for part in value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(part, str) and "," in part:
            yield from _parse_parts(part)
        else:
            yield _parse_range(part)


def _parse_range(part: Any) -> TimeRange:
    try:
        start, end = map(parse_time, part.split("-")) if isinstance(part, str) else _parse_pair(part)
    except ValueError:
        raise OptionsError(f"range is {part!r}; expected two times such as 10-20 or 1:05-1:20.") from None
    if end <= start:
        raise OptionsError(f"range is {part!r}; expected an end after the start.")
    return start, end


def _parse_pair(part: Any) -> Sequence[float]:
    is_pair = isinstance(part, (list, tuple)) and len(part) == 2
    if not is_pair or not all(isinstance(one, Real) and 0 <= float(one) < math.inf for one in part):
        raise ValueError(part)
    return [float(one) for one in part]

"""Helpers of the benchmarks: wall-clock time, variants in turn, and formatting of times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

SPREAD = f"{'min s':>8} {'median s':>8} {'max s':>8}"
"""The heading over what `spread` gives."""


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleave(contenders: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """The seconds that each contender says it took, by name.

    All run in each round, so that a noisy moment hits all of them; the first round warms up and is left out."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for n in range(runs + 1):
        for name, run in contenders.items():
            value = run()
            if n:
                taken[name].append(value)
    return taken


def min_median_max(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Minimum, median and maximum, eight places each."""
    return " ".join(f"{value:8.{digits}f}" for value in min_median_max(values))

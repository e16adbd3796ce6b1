"""One line of the tables of whole images and videos on a GPU, and of their JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """The time of some images or frames."""

    what: str
    size: int
    dtype: str
    items: int
    """Images or frames."""
    seconds: float
    """Median of all of them."""
    baseline: float | None = None
    """Seconds of the same with OpenCV around the network, or before the detector."""

    def __str__(self) -> str:
        beside = "" if self.baseline is None else f"; with OpenCV {self.baseline / self.seconds:.2f} times as long"
        each, rate = 1000 * self.seconds / self.items, self.items / self.seconds
        times = f"{self.seconds:9.3f} s {each:9.2f} ms each {rate:8.1f}/s"
        return f"{self.what:56} {self.size:5} {self.dtype:5} {self.items:4} {times}{beside}"

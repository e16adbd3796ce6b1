"""Deinterlaces frames with FFmpeg's bwdif, one frame for each frame. Progressive frames stay unchanged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from .containers import import_av

FILTER_OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"


def deinterlace(frames: Iterator[Any]) -> Iterator[Any]:
    """Yield PyAV's frames with their timestamps, deinterlaced.

    Frames before the first interlaced one bypass the filter, except the last of them, which the filter needs as the
    previous frame."""
    previous, graph = None, None
    for frame in frames:
        if graph is not None and graph.takes(frame):
            yield from graph.push(frame)
            continue
        if graph is not None:
            yield from graph.flush()
            graph = None
        if frame.interlaced_frame:
            graph = _Graph(frame)
            if previous is not None and graph.takes(previous):
                graph.prime(previous)
            yield from graph.push(frame)
        else:
            yield frame
        previous = frame
    if graph is not None:
        yield from graph.flush()


class _Graph:
    """The filter for frames of one size and format."""

    def __init__(self, frame: Any) -> None:
        self._kind = _kind(frame)
        self._graph = import_av().filter.Graph()
        size = {"width": frame.width, "height": frame.height}
        # Frames from the end of a stream have no time base. Any will do, because timestamps go another way.
        source = self._graph.add_buffer(**size, format=frame.format, time_base=frame.time_base or Fraction(1, 1000))
        bwdif, sink = self._graph.add("bwdif", FILTER_OPTIONS), self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._pts: deque[int | None] = deque()
        self._dropped = 0

    def takes(self, frame: Any) -> bool:
        return _kind(frame) == self._kind

    def prime(self, frame: Any) -> None:
        """Push a frame that was already yielded."""
        self._dropped += 1
        assert not list(self.push(frame)), "the filter waits for the next frame"

    def push(self, frame: Any) -> Iterator[Any]:
        self._pts.append(frame.pts)
        self._graph.push(frame)
        return self._pull()

    def flush(self) -> Iterator[Any]:
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> Iterator[Any]:
        av = import_av()
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            frame.pts = self._pts.popleft()
            if self._dropped:
                self._dropped -= 1
            else:
                yield frame


def _kind(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name

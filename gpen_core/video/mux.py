"""Segments joined into the output, with all else that the film carried copied beside them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError
from ..files.atomic_write import atomic_write
from ..progress import Progress, ProgressEvent, no_progress
from . import matroska
from .containers import FORMATS, LONGEST_DURATION, create, failures, knows_chapters, open_input, reason
from .encoding import Encoding, is_folder_target, segment_shift, tag_colours
from .frame_folder import move_frames
from .probe import Film
from .stream_copy import add_copy, set_time_base
from .write_errors import cure

log = logging.getLogger(__name__)

REPORT_EVERY = 8  # frames: copying one takes little longer than making an event


def join(
    segments: Sequence[Path],
    film: Film,
    target: Path,
    start: float | None = None,
    end: float | None = None,
    progress: Progress = no_progress,
    encoding: Encoding | None = None,
) -> None:
    """Writes `target` from segments in their order: whole, or not at all.

    Frames keep their timestamps as exactly as the container can, and all other streams their packets; with `start` or `end`
    (seconds after the first frame), packets outside are left out and the output begins at 0. Where `target` is a folder,
    the pictures are moved there, see `move_frames`. `encoding`, as `check_output` gave it, says which streams are copied;
    else all are.
    Raises `InputError` for segments that do not belong together, `OutputError` where the disk fails."""
    if is_folder_target(target):
        move_frames(segments, target, progress)
        return
    times = _times(segments, film)
    copied = tuple(one.index for one in film.others) if encoding is None else encoding.copied
    try:
        with atomic_write(target) as part:
            work = _Join(film, segments, times, copied, _window(film, times, start, end), progress)
            format_ = FORMATS[target.suffix.lower()]
            work.write(part, format_)
            if film.aspect != 1 and format_ in ("matroska", "webm"):
                matroska.set_aspect(part, film.aspect)
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
    except failures() as error:
        said = reason(error)
        raise OutputError(f"{target} cannot be written: {said}. The segments are kept: {cure(error)}.") from error


@dataclass(frozen=True)
class Window:
    """Which of the film's time goes into the output."""

    low: Fraction | None
    """Seconds of the film's own clock; None for all that comes before."""
    high: Fraction | None
    shift: Fraction
    """Added to all timestamps."""


def _window(film: Film, times: NDArray[np.int64], start: float | None, end: float | None) -> Window:
    base = film.time_base
    low = None if start is None else int(times.min()) * base
    return Window(low, None if end is None else film.pts_at(end) * base, Fraction(0) if low is None else -low)


def _times(segments: Sequence[Path], film: Film) -> NDArray[np.int64]:
    """Timestamps of all packets in their order, which is the order of decoding."""
    times: list[int] = []
    shift = segment_shift(film)
    last = None
    for segment in segments:
        with open_input(segment) as container:
            packets = container.demux(container.streams.video[0])
            own = [round(packet.pts * packet.time_base / film.time_base) - shift for packet in packets if packet.size]
        if not own or (last is not None and min(own) <= last):
            raise InputError(f"{segment} does not follow the segment before it. Restart.")
        last = max(own)
        times += own
    if not times:
        raise InputError("There is no segment to join: no frame was written.")
    return np.array(times, np.int64)


def decoding_times(times: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """[n] timestamps of decoding for those of showing: strictly rising, never later than these, as early as needed."""
    shown = np.sort(times)
    delay = int((np.searchsorted(shown, times) - np.arange(len(times))).min(initial=0))
    before = (
        shown[0] + np.arange(delay, 0) * step
    )  # `delay` is negative: so many frames are decoded before the first is shown
    return np.concatenate((before, shown))[: len(times)]


@dataclass
class _Join:
    film: Film
    segments: Sequence[Path]
    times: NDArray[np.int64]
    copied: tuple[int, ...]
    window: Window
    progress: Progress

    def write(self, part: Path, format_: str) -> None:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(open_input(self.segments[0])).streams.video[0]
            source = None if self.film.is_folder else stack.enter_context(open_input(self.film.path))
            out = create(part, format_, self.film.time_base)
            try:
                self._write(out, first, source)
            except BaseException:
                with contextlib.suppress(*failures()):
                    out.close()
                raise
            out.close()

    def _write(self, out: Any, first: Any, source: Any) -> None:
        video, copies = self._streams(out, first, source)
        out.start_encoding()
        frames = self._frames(video)
        waiting = next(frames, None)
        for packet, copy in self._others(source, copies):
            now = (packet.dts if packet.dts is not None else packet.pts) * packet.time_base
            while waiting is not None and waiting.dts * waiting.time_base <= now:
                out.mux(waiting)
                waiting = next(frames, None)
            packet.stream = copy
            out.mux(packet)
        while waiting is not None:
            out.mux(waiting)
            waiting = next(frames, None)

    def _streams(self, out: Any, first: Any, source: Any) -> tuple[Any, dict[int, Any]]:
        """The output's streams, in the film's order."""
        copies: dict[int, Any] = {}
        video = None
        for stream in source.streams if source is not None else ():
            if stream.index == self.film.video:
                video = self._video(out, first)
                video.metadata.update({k: v for k, v in stream.metadata.items() if k.split("-")[0].lower() not in STALE})
                video.disposition = stream.disposition.value
            elif stream.index in self.copied:
                copies[stream.index] = add_copy(out, stream)
        if source is not None:
            out.metadata.update(source.metadata)
            self._chapters(out, source)
        return video or self._video(out, first), copies

    def _video(self, out: Any, first: Any) -> Any:
        stream = out.add_stream_from_template(first, opaque=True)
        set_time_base(stream, self.film.time_base)
        context = stream.codec_context
        context.sample_aspect_ratio = self.film.aspect
        tag_colours(context, self.film, context.pix_fmt or self.film.format)
        if self.film.rate is not None:
            context.framerate = self.film.rate
        return stream

    def _chapters(self, out: Any, source: Any) -> None:
        if not knows_chapters():
            return
        chapters = []
        for chapter in source.chapters():
            base = chapter["time_base"]
            low, high = (chapter[name] * base for name in ("start", "end"))
            if (self.window.high is not None and low >= self.window.high) or (
                self.window.low is not None and high <= self.window.low
            ):
                continue
            low, high = self._inside(low), self._inside(high)
            chapters.append({**chapter, "start": round(low / base), "end": round(high / base)})
        if chapters:
            out.set_chapters(chapters)

    def _inside(self, seconds: Fraction) -> Fraction:
        window = self.window
        if window.high is not None:
            seconds = min(seconds, window.high)
        return (seconds if window.low is None else max(seconds, window.low)) + window.shift

    def _frames(self, video: Any) -> Iterator[Any]:
        """The encoded frames, one after the other through all segments."""
        base = self.film.time_base
        step = self.film.frame_ticks
        shift = round(self.window.shift / base)
        shown = np.sort(self.times)
        until = np.append(shown[1:], shown[-1] + step)
        decoded = decoding_times(self.times, step)
        number, total = 0, len(self.times)
        for segment in self.segments:
            with open_input(segment) as container:
                for packet in container.demux(container.streams.video[0]):
                    if not packet.size:
                        continue
                    pts = int(self.times[number])
                    packet.stream, packet.time_base = video, base
                    packet.pts, packet.dts = pts + shift, int(decoded[number]) + shift
                    packet.duration = min(int(until[np.searchsorted(shown, pts)]) - pts, LONGEST_DURATION)
                    number += 1
                    yield packet
                    if number % REPORT_EVERY == 0 or number == total:
                        self.progress(ProgressEvent("join", number, total, "frame", "Joining the segments"))

    def _others(self, source: Any, copies: dict[int, Any]) -> Iterator[tuple[Any, Any]]:
        """Packets that are copied, with their new stream, their timestamps shifted."""
        if source is None or not copies:
            return
        last: dict[int, int] = {}
        for packet in self._demuxed(source, copies):
            index, base = packet.stream_index, packet.time_base
            if index not in copies or not packet.size or not self._is_inside(packet):
                continue
            shift = round(self.window.shift / base)
            dts = packet.dts if packet.dts is not None else packet.pts
            dts = max(dts + shift, last.get(index, dts + shift - 1) + 1) if index in last else dts + shift
            packet.pts = dts if packet.pts is None else max(packet.pts + shift, dts)
            packet.dts = last[index] = dts
            yield packet, copies[index]

    def _demuxed(self, source: Any, copies: dict[int, Any]) -> Iterator[Any]:
        """A film that was cut off or damaged gives what it can; the reader has said what is wrong with it."""
        packets = source.demux(*(source.streams[index] for index in copies))
        while True:
            try:
                packet = next(packets, None)
            except failures() as error:
                log.warning("%s: what cannot be read is not copied (%s).", self.film.path, reason(error))
                return
            if packet is None:
                return
            yield packet

    def _is_inside(self, packet: Any) -> bool:
        """Whether it belongs to the part that is kept; a subtitle shown already at the start does."""
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            return False
        low, high = self.window.low, self.window.high
        begins, ends = pts * packet.time_base, (pts + (packet.duration or 0)) * packet.time_base
        if high is not None and begins >= high:
            return False
        if low is None or begins >= low:
            return True
        if packet.stream.type != "subtitle" or ends <= low:
            return bool(packet.stream.type == "video")  # a cover
        late = round(low / packet.time_base) - pts
        packet.pts, packet.duration = pts + late, packet.duration - late
        packet.dts = packet.pts
        return True


STALE = ("duration", "number_of_frames", "number_of_bytes", "bps", "encoder", "rotate")
"""Metadata that told of the stream as it was encoded; compared without a language's suffix."""

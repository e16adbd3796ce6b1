"""Joins segments into the output and copies the video's other streams."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError
from ..files.atomic_write import atomic_write
from ..progress import Progress, ProgressEvent, no_progress
from . import matroska
from .containers import (
    MAX_PACKET_DURATION,
    OUTPUT_FORMATS,
    av_errors,
    error_reason,
    import_av,
    open_input,
    open_output,
    supports_chapters,
    write_error,
)
from .copy_clock import CopyClock
from .encoding import Encoding, is_image_sequence, segment_pts_offset, write_color_tags
from .frame_folder import move_frames
from .joined_parts import JoinedParts
from .probe import VideoInfo
from .reader import FrameReader
from .stream_copy import add_stream_copy, attach_cover, first_packet, read_packet, set_time_base, stream_tags
from .subtitles import add_srt_stream, becomes_srt, to_srt
from .video_stream import ALPHA_TAG, has_webm_alpha, is_cover

log = logging.getLogger(__name__)

HALF = Fraction(1, 2)
M2TS_HEADER_BYTES = 4  # before each packet in .m2ts: copy permission and arrival time
MIN_TS_PACKETS = 20  # FFmpeg takes a transport stream of fewer than 11 for a program stream
TS_NULL_PACKET = b"\x47\x1f\xff\x10".ljust(188, b"\xff")  # ISO/IEC 13818-1, 2.4.3.3: readers discard the PID 0x1fff
REPORT_EVERY = 8  # frames, because copying one takes hardly longer than an event


def concatenate(
    segments: Sequence[Path],
    reader: FrameReader,
    target: Path,
    encoding: Encoding,
    progress: Progress = no_progress,
    last_ticks: int | None = None,
) -> None:
    """Write `target` atomically from segments in their order. `reader`: that of the source.

    Frames keep their timestamps as exactly as the container allows, and the packets of other streams are copied. If the
    reader has a start or an end, packets outside are dropped and the output begins at 0. For a folder, see `move_frames`.
    `encoding`, from `resolve_encoding`, selects the streams to copy. `last_ticks`: duration of the last frame; None for that
    of `FrameReader.last_frame_ticks`.
    Raises `InputError` for segments that do not belong together, and `OutputError` if the file cannot be written."""
    if is_image_sequence(target):
        move_frames(segments, target, progress)
        return
    info = reader.info
    timestamps = _read_timestamps(segments, info)
    with atomic_write(target) as part:
        try:
            format_, is_m2ts = OUTPUT_FORMATS[target.suffix.lower()], target.suffix.lower() == ".m2ts"
            time_range = _time_range(reader, timestamps)
            if format_ == "avi":
                info, timestamps = _count_frames(info, timestamps)
                last_ticks = info.frame_ticks
            elif last_ticks is None:
                last_ticks = reader.last_frame_ticks(timestamps)
            muxer = _Muxer(info, reader, segments, timestamps, last_ticks, encoding.copied_streams, time_range, progress)
            muxer.write(part, format_, is_m2ts)
            if info.sample_aspect_ratio != 1 and format_ in ("matroska", "webm"):
                matroska.set_sample_aspect_ratio(part, info.sample_aspect_ratio)
            with open(part, "rb+") as file:
                if format_ == "mpegts":
                    _pad_transport_stream(file, is_m2ts)
                os.fsync(file.fileno())
            _raise_if_unreadable(part, target)
        except av_errors() as error:
            raise write_error(target, error) from error


def _pad_transport_stream(file: BinaryIO, is_m2ts: bool) -> None:
    """Append null packets to a transport stream that is too short for FFmpeg to recognize, such as one of three frames."""
    header = M2TS_HEADER_BYTES if is_m2ts else 0
    packet = file.read(header) + TS_NULL_PACKET
    missing = MIN_TS_PACKETS - file.seek(0, os.SEEK_END) // len(packet)
    file.write(packet * missing)


def _raise_if_unreadable(part: Path, target: Path) -> None:
    try:
        with open_input(part):
            pass
    except InputError as error:
        raise OutputError(
            f"{target} was not written, because the result cannot be opened. The finished segments are kept; "
            "choose another container, such as .mkv."
        ) from error


@dataclass(frozen=True)
class TimeRange:
    """The part of the video that goes into the output."""

    start: Fraction | None
    """Seconds of the video's own clock; None for the beginning."""
    end: Fraction | None
    offset: Fraction
    """Added to all timestamps."""


def _time_range(reader: FrameReader, timestamps: NDArray[np.int64]) -> TimeRange:
    info, base = reader.info, reader.info.time_base
    low = None if reader.start is None else int(timestamps.min()) * base
    high = None if reader.end is None else info.pts_at(reader.end) * base
    return TimeRange(low, high, -info.clock_start if low is None else -low)


def _read_timestamps(segments: Sequence[Path], info: VideoInfo) -> NDArray[np.int64]:
    """Return the timestamps of all packets in decoding order."""
    times: list[int] = []
    shift = segment_pts_offset(info)
    last = None
    for segment in segments:
        with open_input(segment) as container:
            packets = container.demux(container.streams.video[0])
            own = [round(packet.pts * packet.time_base / info.time_base) - shift for packet in packets if packet.size]
        if not own or (last is not None and min(own) <= last):
            raise InputError(f"{segment} does not follow the previous segment. Delete it and run again.")
        last = max(own)
        times += own
    if not times:
        raise InputError("There are no segments to join, because no frame was written.")
    return np.array(times, np.int64)


def _count_frames(info: VideoInfo, timestamps: NDArray[np.int64]) -> tuple[VideoInfo, NDArray[np.int64]]:
    """Return the video and its timestamps in AVI's clock with one tick per frame.

    With a finer clock, AVI would get an empty frame for each tick between two frames. If the rate varies, a tick is the
    shortest distance between frames."""
    shown = np.sort(timestamps)
    for ticks in (info.frame_duration / info.time_base, Fraction(int(np.diff(shown).min(initial=info.frame_ticks)))):
        first = math.floor(int(shown[0]) / ticks + HALF)
        counted = np.array([first + math.floor((int(pts) - int(shown[0])) / ticks + HALF) for pts in timestamps], np.int64)
        if len(np.unique(counted)) == len(counted):
            return replace(info, time_base=ticks * info.time_base), counted
    return info, timestamps


def decoding_timestamps(timestamps: NDArray[np.int64], step: int, last_ticks: int) -> NDArray[np.int64]:
    """Return [n] decoding timestamps for presentation timestamps, whose last frame lasts `last_ticks`.

    They rise strictly, are never later than the presentation timestamps, and span less than these. Before the first frame is
    shown, they are at most `step` apart."""
    shown = np.sort(timestamps)
    # The negative number of frames that are decoded before the first is shown:
    delay = int((np.searchsorted(shown, timestamps) - np.arange(len(timestamps))).min(initial=0))
    step = max(1, min(step, int(shown[-1] + last_ticks - shown[delay - 1]) // (1 - delay)))
    leading = shown[0] + np.arange(delay, 0) * step
    return np.concatenate((leading, shown))[: len(timestamps)]


@dataclass
class _Muxer:
    info: VideoInfo
    reader: FrameReader
    """Of the source."""
    segments: Sequence[Path]
    timestamps: NDArray[np.int64]
    last_ticks: int
    copied_streams: tuple[int, ...]
    time_range: TimeRange
    progress: Progress
    srt_streams: set[int] = field(default_factory=set)
    """Indices of the subtitles that are converted to SRT."""

    def write(self, part: Path, format_: str, is_m2ts: bool) -> None:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(open_input(self.segments[0])).streams.video[0]
            source = None if self.info.is_folder else stack.enter_context(open_input(self.info.path))
            metadata = None if source is None else source.metadata
            out = open_output(part, format_, self.info.time_base, is_m2ts=is_m2ts, metadata=metadata)
            try:
                self._write(out, first, source)
            except BaseException:
                with contextlib.suppress(*av_errors()):
                    out.close()
                raise
            out.close()

    def _write(self, out: Any, first: Any, source: Any) -> None:
        video, copies, covers = self._add_streams(out, first, source)
        out.start_encoding()
        for packet in covers:
            out.mux(packet)
        frames = self._video_packets(video, out.format.name in ("mp4", "mov"))
        waiting = next(frames, None)
        for packet, copy in self._copied_packets(source, copies):
            now = (packet.dts if packet.dts is not None else packet.pts) * packet.time_base
            while waiting is not None and waiting.dts * waiting.time_base <= now:
                out.mux(waiting)
                waiting = next(frames, None)
            packet.stream = copy
            out.mux(packet)
        while waiting is not None:
            out.mux(waiting)
            waiting = next(frames, None)

    def _add_streams(self, out: Any, first: Any, source: Any) -> tuple[Any, dict[int, Any], list[Any]]:
        """Add the output's streams in the video's order. Return the video stream, the copied streams by the index of their
        source, and the packets of cover images."""
        copies: dict[int, Any] = {}
        covers: list[Any] = []
        video = None
        for stream in source.streams if source is not None else ():
            if stream.index == self.info.video_index:
                video = self._add_video(out, first)
                video.metadata.update(
                    {k: v for k, v in stream_tags(stream).items() if k.split("-")[0].lower() not in DROPPED_TAGS}
                )
                video.disposition = stream.disposition.value
            elif stream.index not in self.copied_streams:
                continue
            elif is_cover(stream):
                data = read_packet(self.info.path, stream.index)
                if out.format.name == "matroska":
                    attach_cover(out, stream, data)
                else:
                    covers.append(first_packet(add_stream_copy(out, stream, self.info.path), data))
            elif stream.type == "subtitle" and becomes_srt(stream.codec_context.name, out.format.name):
                copies[stream.index] = add_srt_stream(out, stream)
                self.srt_streams.add(stream.index)
            else:
                copies[stream.index] = add_stream_copy(out, stream, self.info.path)
        if source is not None:
            self._copy_chapters(out, source)
        return video or self._add_video(out, first), copies, covers

    def _add_video(self, out: Any, first: Any) -> Any:
        stream = out.add_stream_from_template(first, opaque=True)
        set_time_base(stream, self.info.time_base)
        context = stream.codec_context
        context.sample_aspect_ratio = self.info.sample_aspect_ratio
        write_color_tags(context, self.info, context.pix_fmt or self.info.format)
        if self.info.frame_rate is not None:
            context.framerate = self.info.frame_rate
        if has_webm_alpha(first):
            stream.metadata[ALPHA_TAG] = "1"
        if context.name == "hevc" and out.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players do not support hev1
        if context.name == "prores" and out.format.name == "mov":
            context.codec_tag = first.codec_context.codec_tag  # distinguishes 4444 from HQ
        return stream

    def _copy_chapters(self, out: Any, source: Any) -> None:
        if not supports_chapters():
            return
        chapters = []
        for chapter in source.chapters():
            base = chapter["time_base"]
            low, high = (chapter[name] * base for name in ("start", "end"))
            if (self.time_range.end is not None and low >= self.time_range.end) or (
                self.time_range.start is not None and high <= self.time_range.start
            ):
                continue
            low, high = self._clamp(low), self._clamp(high)
            chapters.append({**chapter, "start": round(low / base), "end": round(high / base)})
        if chapters:
            out.set_chapters(chapters)

    def _clamp(self, seconds: Fraction) -> Fraction:
        window = self.time_range
        if window.end is not None:
            seconds = min(seconds, window.end)
        return (seconds if window.start is None else max(seconds, window.start)) + window.offset

    def _video_packets(self, video: Any, is_mp4: bool) -> Iterator[Any]:
        """Yield the encoded frames of all segments."""
        base = self.info.time_base
        shift = round(self.time_range.offset / base)
        shown = np.sort(self.timestamps)
        until = np.append(shown[1:], shown[-1] + self.last_ticks)
        decoded = decoding_timestamps(self.timestamps, self.info.frame_ticks, self.last_ticks)
        number, total = 0, len(self.timestamps)
        for segment in self.segments:
            with open_input(segment) as container:
                for packet in container.demux(container.streams.video[0]):
                    if not packet.size:
                        continue
                    pts = int(self.timestamps[number])
                    packet.stream, packet.time_base = video, base
                    packet.pts, packet.dts = pts + shift, int(decoded[number]) + shift
                    duration = int(until[np.searchsorted(shown, pts)]) - pts
                    number += 1
                    if number == total and is_mp4:  # FFmpeg ends the track with the packet that is decoded last
                        duration = max(duration, int(until[-1] - shown[0] - decoded[-1] + decoded[0]))
                    packet.duration = min(duration, MAX_PACKET_DURATION)
                    yield packet
                    if number % REPORT_EVERY == 0 or number == total:
                        self.progress(ProgressEvent("join", number, total, "frame", "Joining the segments"))

    def _copied_packets(self, source: Any, copies: dict[int, Any]) -> Iterator[tuple[Any, Any]]:
        """Yield the copied packets with shifted timestamps, each with its new stream."""
        if source is None or not copies:
            return
        clocks = {index: CopyClock.of(copy) for index, copy in copies.items()}
        joined = JoinedParts(self.info, self.reader.joined_parts())
        for packet in self._demux(source, copies):
            index = packet.stream_index
            if index not in copies or not packet.size:
                continue
            joined.shift_copied(packet)
            if not self._is_in_range(packet):
                continue
            if index in self.srt_streams:
                text = to_srt(bytes(packet))
                if not text:
                    continue
                packet = _with_data(packet, text)
            clocks[index].convert(packet, self.time_range.offset)
            yield packet, copies[index]

    def _demux(self, source: Any, copies: dict[int, Any]) -> Iterator[Any]:
        """Yield packets up to the first read error. The reader has already reported defects of the video."""
        packets = source.demux(*(source.streams[index] for index in copies))
        while True:
            try:
                packet = next(packets, None)
            except av_errors() as error:
                log.warning("%s: packets after a read error were not copied (%s).", self.info.path, error_reason(error))
                return
            if packet is None:
                return
            yield packet

    def _is_in_range(self, packet: Any) -> bool:
        """Whether the packet is in the kept part. A subtitle that is visible at its start is in it and gets shortened."""
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            return False
        low, high = self.time_range.start, self.time_range.end
        begins, ends = pts * packet.time_base, (pts + (packet.duration or 0)) * packet.time_base
        if high is not None and begins >= high:
            return False
        if low is None or begins >= low:
            return True
        if packet.stream.type != "subtitle" or ends <= low:
            return False
        cut_ticks = round(low / packet.time_base) - pts
        packet.pts, packet.duration = pts + cut_ticks, packet.duration - cut_ticks
        packet.dts = packet.pts
        return True


def _with_data(packet: Any, data: bytes) -> Any:
    """Return a copy of a packet with other data."""
    other = import_av().Packet(data)
    other.time_base, other.pts, other.dts, other.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    other.is_keyframe = True
    return other


DROPPED_TAGS = ("duration", "number_of_frames", "number_of_bytes", "bps", "encoder", "rotate", ALPHA_TAG)
"""Metadata about the original encoding, which is not copied. The comparison ignores a suffix for the language."""

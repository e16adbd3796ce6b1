"""Reads a video's frames one by one, from any frame on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images.codecs import EncodedImage
from ..images.image import ImageData, Pixels
from .containers import av_errors, error_reason, import_av, open_input
from .deinterlace import deinterlace
from .frame_image import MakeImage, convert_now
from .joined_parts import JoinedParts, Part
from .planes import CONVERTIBLE_MATRICES, UNSPECIFIED, Planes, scale_depth
from .probe import VideoInfo, as_rgb, frame_files, interlaced_message, read_frame
from .video_stream import open_decoder

log = logging.getLogger(__name__)

SEEK_BACK_SECONDS = (2.0, 8.0, 32.0)  # before a frame, tried in order until decoding begins at or before it
MAX_READ_FAILURES = 16
TRUNCATION_SECONDS = 1.0  # more seconds without frames at the end mean that the video was cut off

TimestampedFrame = tuple[int, Any]
"""A timestamp and PyAV's frame."""


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One frame of a video."""

    number: int
    """Counted from 0, the first frame that is restored."""
    pts: int
    """Timestamp in the video's time base."""
    seconds: float
    image: ImageData
    """RGB [H, W, 3], upright; uint8, or uint16 if the video has more than 8 bits."""
    native: Planes | EncodedImage
    """The decoded frame, upright: a video's planes, or a folder's image with its metadata."""
    name: str = ""
    """File name of a folder's image."""

    @property
    def alpha(self) -> Pixels | None:
        """[H, W] in the image's type, or None."""
        if isinstance(self.native, EncodedImage):
            return self.native.image.alpha
        alpha = self.native.alpha
        return (
            None if alpha is None else scale_depth(alpha, self.native.layout.bits, 8 if self.image.max_value == 255 else 16)
        )


@dataclass
class FrameReader:
    """Decodes a video from `start` to `end`, in seconds after its first frame. The end is excluded."""

    info: VideoInfo
    start: float | None = None
    end: float | None = None
    interlaced: str = "deinterlace"
    """As in `VideoOptions`."""
    notes: list[str] = field(default_factory=list)
    """Notes about defects of the video, without duplicates. They are also logged as warnings."""
    _is_seeking: bool = field(default=False, init=False, repr=False)
    """True from a seek to the first frame after it. Errors before that frame are ignored."""
    _file_order: deque[int | None] = field(default_factory=deque, init=False, repr=False)
    """For a video that `has_file_order_timestamps`: timestamps of packets whose frame was not decoded yet."""
    _parts: list[Part] | None = field(default=None, init=False, repr=False)
    _packet_count: int = field(default=0, init=False, repr=False)
    _packets_end: int = field(default=0, init=False, repr=False)
    """The last time in the video's time base at which a packet ends."""

    def frames(
        self,
        first: int = 0,
        timestamps: Sequence[int] | NDArray[np.int64] | None = None,
        make_image: MakeImage = convert_now,
    ) -> Iterator[DecodedFrame]:
        """Yield the frames from number `first` on. `make_image` makes the image of a video's frame.

        `timestamps`: the timestamps of all frames from an earlier pass. With them, decoding begins shortly before the first
        frame, and they give the frames' numbers. The iterator ends early if the video no longer gives these frames. Frames
        that cannot be decoded are dropped, with a note. A video that was cut off ends early, with a note. Raises
        `InputError` for a frame of another size, and if a folder's image cannot be read."""
        if self.info.is_folder:
            yield from self._image_frames(first)
            return
        numbered = enumerate(self._first_pass()) if timestamps is None else self._second_pass(first, np.asarray(timestamps))
        for number, (pts, frame) in numbered:
            if number >= first:
                yield self._decoded_frame(number, pts, frame, make_image)

    def timestamps(self, on_frame: Callable[[], None] = lambda: None) -> NDArray[np.int64]:
        """Return the timestamps [N] of all frames. `on_frame` is called after each and may raise to stop it."""
        if self.info.is_folder:
            return np.array(self._image_numbers(), np.int64)
        found = []
        for pts, _ in self._first_pass():
            found.append(pts)
            on_frame()
        return np.array(found, np.int64)

    def joined_parts(self) -> list[Part]:
        """Return the parts of a joined recording. The first call reads the whole file if its container may have some."""
        if self._parts is None:
            joined = JoinedParts(self.info)
            if self.info.may_be_joined:
                with open_input(self.info.path) as container:
                    for packet in self._packets(container, container.streams[self.info.video_index]):
                        if packet is not None:
                            joined.shift_video(packet)
            self._parts = joined.parts
        return self._parts

    def last_frame_ticks(self, timestamps: NDArray[np.int64]) -> int:
        """Return how long the last of these frames lasts, in the video's time base.

        It is the average if the frame rate is constant, or if the file does not say it. Otherwise, this reads the whole
        file: the frame lasts until the next one or the end of the video, or as long as its packet, but not after `end`."""
        info, shown = self.info, np.sort(timestamps)
        is_constant = bool((np.abs(np.diff(shown) - info.frame_ticks) <= 1).all())
        if info.is_folder or is_constant or info.has_file_order_timestamps or self.joined_parts():
            return info.frame_ticks
        last, durations = int(shown[-1]), {}
        with open_input(info.path) as container:
            for packet in self._packets(container, container.streams[info.video_index]):
                if packet is not None and packet.pts is not None:
                    durations[packet.pts] = packet.duration or 0
        until = min((pts for pts in durations if pts > last), default=last + durations.get(last, 0))
        if until not in durations and info.duration is not None and self._is_complete(len(durations)):
            until = info.pts_at(info.duration)
        if self.end is not None:
            until = min(until, info.pts_at(self.end))
        return until - last if until > last else info.frame_ticks

    def _is_complete(self, packets: int) -> bool:
        """Whether the video has all packets that its header counts, so that its last frame lasts until its end."""
        return self.info.has_stream_duration and packets == self.info.frame_count

    def _decoded_frame(self, number: int, pts: int, frame: Any, make_image: MakeImage) -> DecodedFrame:
        info = self.info
        if frame.colorspace not in CONVERTIBLE_MATRICES:
            frame.colorspace = UNSPECIFIED
        planes = Planes.from_frame(frame, info.decoded_format, info.colors).apply_orientation(info.orientation)
        return DecodedFrame(number, pts, info.seconds_at(pts), make_image(frame, planes, info), planes)

    def _image_frames(self, first: int) -> Iterator[DecodedFrame]:
        info = self.info
        paths = frame_files(info.path)
        for number, pts in enumerate(self._image_numbers()[first:], first):
            encoded = read_frame(paths[pts], info.size)
            image = as_rgb(encoded.image)
            yield DecodedFrame(number, pts, info.seconds_at(pts), image, encoded, paths[pts].name)

    def _image_numbers(self) -> range:
        """Return the positions of the folder's images from `start` to `end`."""
        count = len(frame_files(self.info.path))
        start = 0 if self.start is None else max(0, self.info.pts_at(self.start))
        return range(start, count if self.end is None else min(count, self.info.pts_at(self.end)))

    def _first_pass(self) -> Iterator[TimestampedFrame]:
        """Yield the frames from `self.start` on."""
        target_pts = None if self.start is None else self.info.pts_at(self.start)
        for pts, frame in self._decode() if target_pts is None else self._decode_reaching(target_pts):
            if target_pts is None or pts >= target_pts:
                self._check_size(frame, pts)
                yield pts, frame

    def _decode_reaching(self, target_pts: int) -> Iterator[TimestampedFrame]:
        """Yield frames, beginning at or before `target_pts`.

        A container without an index seeks to any key frame nearby, or cannot seek."""
        for seconds in () if self.info.has_file_order_timestamps or self.joined_parts() else SEEK_BACK_SECONDS:
            decoded = self._decode(self._seek_target(target_pts, seconds))
            first = next(decoded, None)
            if first is not None and first[0] <= target_pts:
                return chain([first], decoded)
        return self._decode()

    def _second_pass(self, first: int, timestamps: NDArray[np.int64]) -> Iterator[tuple[int, TimestampedFrame]]:
        """Yield frames with their numbers, each at its timestamp of the first pass.

        If decoding misses a frame, it begins again further back, and at last at the start of the first pass."""
        number = first
        for seconds in (*(() if self._cannot_seek(timestamps) else SEEK_BACK_SECONDS), None):
            if number >= len(timestamps):
                return
            decoded = (
                self._first_pass() if seconds is None else self._decode(self._seek_target(int(timestamps[number]), seconds))
            )
            for pts, frame in decoded:
                if number >= len(timestamps) or pts > timestamps[number]:
                    break
                if pts == timestamps[number]:
                    self._check_size(frame, pts)
                    yield number, (pts, frame)
                    number += 1

    def _cannot_seek(self, timestamps: NDArray[np.int64]) -> bool:
        """Whether frames cannot be identified by their timestamps after a seek.

        That is so if parts were joined, or if `_decode` corrected some of them or only counted frames, because then several
        frames may have one timestamp in the file."""
        if self.info.has_file_order_timestamps or self.joined_parts():
            return True
        return self.info.frame_ticks > 1 and bool((np.diff(timestamps) == 1).any())

    def _seek_target(self, pts: int, seconds: float) -> int | None:
        """Return the timestamp `seconds` before `pts`, or None if that is before the first frame."""
        target = pts - round(seconds / self.info.time_base)
        return target if target > self.info.start_pts else None

    def _decode(self, seek_pts: int | None = None) -> Iterator[TimestampedFrame]:
        """Yield frames up to `self.end` with strictly rising timestamps, from the first frame or from `seek_pts` on.

        Yields nothing if the container cannot seek, or if frames after the seek have no timestamps."""
        info, last = self.info, None
        self._packet_count = self._packets_end = 0
        end, is_corrected = None if self.end is None else info.pts_at(self.end), False
        self._is_seeking = seek_pts is not None
        for frame in self._progressive_frames(seek_pts):
            pts = frame.pts
            if pts is None:
                if self._is_seeking:
                    return
                pts = info.start_pts if last is None else last + info.frame_ticks
            self._is_seeking = False
            if last is not None and pts <= last:
                if not is_corrected:
                    self._note(f"Timestamps that do not rise were corrected, the first at {info.seconds_at(last):.3f} s.")
                pts, is_corrected = last + 1, True
            last = pts
            if end is not None and pts >= end:
                return
            yield pts, frame
        if seek_pts is not None or not self._is_complete(self._packet_count):
            self._note_if_truncated(last)

    def _progressive_frames(self, seek_pts: int | None) -> Iterator[Any]:
        """Return the frames, deinterlaced if `interlaced` says so. Raises `InputError` if it refuses interlaced frames."""
        frames = self._raw_frames(seek_pts)
        if self.interlaced == "keep":
            return frames
        frames = map(self._check_interlaced, frames)
        return frames if self.interlaced == "refuse" else deinterlace(frames)

    def _check_interlaced(self, frame: Any) -> Any:
        if frame.interlaced_frame:
            if self.interlaced == "refuse":
                raise InputError(interlaced_message(self.info.path))
            self._note("Interlaced frames were deinterlaced (bwdif).")
        return frame

    def _raw_frames(self, seek_pts: int | None) -> Iterator[Any]:
        """Yield frames in display order."""
        with open_input(self.info.path) as container:
            stream = container.streams[self.info.video_index]
            stream.thread_type = "AUTO"
            decoder = open_decoder(stream)
            if seek_pts is not None:
                try:
                    container.seek(seek_pts, stream=stream)
                except av_errors() as error:
                    log.debug("%s cannot seek (%s).", self.info.path, error_reason(error))
                    return
            if not self.info.has_file_order_timestamps:
                joined = JoinedParts(self.info)
                for packet in self._packets(container, stream):
                    if packet is not None and joined.shift_video(packet) and len(joined.parts) == 1:
                        seconds = self.info.seconds_at(packet.dts if packet.pts is None else packet.pts)
                        self._note(
                            f"Joined recordings: timestamps jump at {seconds:.3f} s. Each part follows the one before."
                        )
                    yield from self._decode_packet(decoder, packet)
                return
            self._note("The file has timestamps in decoding order only, so frames got theirs by counting.")
            self._file_order.clear()
            for packet in self._packets(container, stream):
                if packet is not None:
                    self._file_order.append(packet.dts if packet.dts is not None else packet.pts)
                for frame in self._decode_packet(decoder, packet):
                    frame.pts = self._file_order.popleft() if self._file_order else None
                    yield frame

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield packets, and None at the end. After a read error, try to continue a few times."""
        for _ in range(MAX_READ_FAILURES):
            try:
                for packet in container.demux(stream):
                    if packet.size:
                        self._packet_count += 1
                        if packet.pts is not None:
                            self._packets_end = max(self._packets_end, packet.pts + (packet.duration or 0))
                        yield packet
                break
            except av_errors() as error:
                self._note(f"Parts of the file cannot be read ({error_reason(error)}).")
        yield None

    def _decode_packet(self, decoder: Any, packet: Any) -> Iterator[Any]:
        """Yield a packet's frames. None flushes the decoder, which may have frames after broken ones."""
        for _ in range(1 if packet is not None else MAX_READ_FAILURES):
            try:
                yield from decoder.decode(packet)
                return
            except import_av().error.EOFError:
                return
            except av_errors() as error:
                self._note(f"Frames that cannot be decoded were dropped ({error_reason(error)}).")
                if self._file_order:
                    self._file_order.popleft()

    def _check_size(self, frame: Any, pts: int) -> None:
        size = (frame.width, frame.height)
        size = size[::-1] if self.info.orientation >= 5 else size
        if size != self.info.size:
            first = "{} x {}".format(*self.info.size)
            raise InputError(
                f"{self.info.path}: the frame at {self.info.seconds_at(pts):.3f} s is {size[0]} x {size[1]} px, but the "
                f"first is {first} px. Restore the parts before and after it separately, with the options end and start."
            )

    def _note_if_truncated(self, last: int | None) -> None:
        info = self.info
        if last is None or info.duration is None or not info.has_stream_duration:
            return
        reached = info.seconds_at(max(last + info.frame_ticks, self._packets_end))
        if info.duration - reached > max(TRUNCATION_SECONDS, 2 * float(info.frame_duration)):
            self._note(f"The video was cut off: it ends after {reached:.3f} of {info.duration:.3f} s.")

    def _note(self, text: str) -> None:
        if text not in self.notes and not self._is_seeking:
            self.notes.append(text)
            log.warning("%s: %s", self.info.path, text)

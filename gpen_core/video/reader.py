"""A video's frames one by one, from any of them on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images.codecs import EncodedImage
from ..images.image import ImageData, Pixels, apply_orientation
from .containers import av_errors, error_reason, import_av, open_input
from .deinterlace import deinterlace
from .planes import Planes, scale_depth, to_rgb
from .probe import VideoInfo, as_rgb, frame_files, interlaced_message, read_frame

log = logging.getLogger(__name__)

SEEK_BACK_SECONDS = (2.0, 8.0, 32.0)  # seconds before a wanted frame that are sought, until decoding begins at or before it
MAX_READ_FAILURES = 16
TRUNCATION_SECONDS = 1.0  # seconds at the end without frames that are taken for a video cut off

TimestampedFrame = tuple[int, Any]
"""A timestamp and PyAV's frame."""


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One frame of a video."""

    number: int
    """From 0, counted from the first frame that is restored."""
    pts: int
    """In the video's time base."""
    seconds: float
    image: ImageData
    """RGB [H, W, 3], upright; uint8, or uint16 where the video has more than 8 bits."""
    native: Planes | EncodedImage
    """As decoded, upright: a video's planes, a folder's image with what its file carried."""
    name: str = ""
    """Of a folder's image."""

    @property
    def alpha(self) -> Pixels | None:
        """[H, W] of the image's type; None where there is none."""
        if isinstance(self.native, EncodedImage):
            return self.native.image.alpha
        alpha = self.native.alpha
        return (
            None if alpha is None else scale_depth(alpha, self.native.layout.bits, 8 if self.image.max_value == 255 else 16)
        )


@dataclass
class FrameReader:
    """Decodes a video from `start` to `end`, both in seconds after its first frame; the end is not included."""

    info: VideoInfo
    start: float | None = None
    end: float | None = None
    interlaced: str = "deinterlace"
    """As in `VideoOptions`."""
    notes: list[str] = field(default_factory=list)
    """What was wrong with the video, once each; also logged as warnings."""
    _is_seeking: bool = field(default=False, init=False, repr=False)
    """Until the first frame after a seek: what cannot be decoded before it was not asked for."""
    _file_order: deque[int | None] = field(default_factory=deque, init=False, repr=False)
    """Timestamps of packets whose frame is not out yet, of a video that `has_file_order_timestamps`."""

    def frames(self, first: int = 0, timestamps: Sequence[int] | NDArray[np.int64] | None = None) -> Iterator[DecodedFrame]:
        """The frames from number `first` on.

        `timestamps`: the timestamps of all frames from an earlier pass. With them decoding begins shortly before the frame,
        and frames are numbered by them; it ends early where the video no longer gives these frames. A frame that cannot be
        decoded is left out; a video that was cut off ends where it ends; both are put into `notes`. Raises `InputError` for
        a frame of another size, and where a folder's image cannot be read."""
        if self.info.is_folder:
            yield from self._image_frames(first)
            return
        numbered = enumerate(self._first_pass()) if timestamps is None else self._second_pass(first, np.asarray(timestamps))
        for number, (pts, frame) in numbered:
            if number >= first:
                yield self._decoded_frame(number, pts, frame)

    def _decoded_frame(self, number: int, pts: int, frame: Any) -> DecodedFrame:
        info = self.info
        pixels = apply_orientation(to_rgb(frame, info.colors, info.bits), info.orientation)
        planes = Planes.from_frame(frame, info.decoded_format, info.colors).apply_orientation(info.orientation)
        return DecodedFrame(number, pts, info.seconds_at(pts), ImageData(np.ascontiguousarray(pixels)), planes)

    def _image_frames(self, first: int) -> Iterator[DecodedFrame]:
        info = self.info
        paths = frame_files(info.path)
        start = 0 if self.start is None else max(0, info.pts_at(self.start))
        end = len(paths) if self.end is None else min(len(paths), info.pts_at(self.end))
        for number, pts in enumerate(range(start + first, end), first):
            encoded = read_frame(paths[pts], info.size)
            image = as_rgb(encoded.image)
            yield DecodedFrame(number, pts, info.seconds_at(pts), image, encoded, paths[pts].name)

    def _first_pass(self) -> Iterator[TimestampedFrame]:
        """From `self.start` on."""
        target_pts = None if self.start is None else self.info.pts_at(self.start)
        for pts, frame in self._decode() if target_pts is None else self._decode_reaching(target_pts):
            if target_pts is None or pts >= target_pts:
                self._check_size(frame, pts)
                yield pts, frame

    def _decode_reaching(self, target_pts: int) -> Iterator[TimestampedFrame]:
        """From a frame on that is at or before `target_pts`: a container without an index leads to any key frame near it, or
        cannot seek."""
        for seconds in () if self.info.has_file_order_timestamps else SEEK_BACK_SECONDS:
            decoded = self._decode(self._seek_target(target_pts, seconds))
            first = next(decoded, None)
            if first is not None and first[0] <= target_pts:
                return chain([first], decoded)
        return self._decode()

    def _second_pass(self, first: int, timestamps: NDArray[np.int64]) -> Iterator[tuple[int, TimestampedFrame]]:
        """Frames with their numbers, each at its time in the first pass. Where decoding from one place misses a frame, it
        begins further back, at last where the first pass began."""
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
        """Whether some of them are not the file's own but follow the one before, see `_decode`, or frames are only counted:
        then a timestamp may be that of several frames, and only the first pass tells which."""
        if self.info.has_file_order_timestamps:
            return True
        return self.info.frame_ticks > 1 and bool((np.diff(timestamps) == 1).any())

    def _seek_target(self, pts: int, seconds: float) -> int | None:
        """So many seconds before; None where that is before the first frame."""
        target = pts - round(seconds / self.info.time_base)
        return target if target > self.info.start_pts else None

    def _decode(self, seek_pts: int | None = None) -> Iterator[TimestampedFrame]:
        """Frames to `self.end`, their timestamps strictly rising: from the first on, or after seeking to that timestamp.
        There are none where the container cannot seek, or frames after it have no timestamps."""
        info, last = self.info, None
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
                    self._note(f"Timestamps that do not rise, first at {info.seconds_at(last):.3f} s, were set right.")
                pts, is_corrected = last + 1, True
            last = pts
            if end is not None and pts >= end:
                return
            yield pts, frame
        self._note_if_truncated(last)

    def _progressive_frames(self, seek_pts: int | None) -> Iterator[Any]:
        """Frames, deinterlaced if that is asked for. Raises `InputError` for the first interlaced one if none may be."""
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
        """Frames in the order of showing."""
        with open_input(self.info.path) as container:
            stream = container.streams[self.info.video_index]
            stream.thread_type = "AUTO"
            if seek_pts is not None:
                try:
                    container.seek(seek_pts, stream=stream)
                except av_errors() as error:
                    log.debug("%s cannot seek (%s).", self.info.path, error_reason(error))
                    return
            if not self.info.has_file_order_timestamps:
                for packet in self._packets(container, stream):
                    yield from self._decode_packet(stream, packet)
                return
            self._note("The file has no time for frames that are shown in another order: they were numbered.")
            self._file_order.clear()
            for packet in self._packets(container, stream):
                if packet is not None:
                    self._file_order.append(packet.dts if packet.dts is not None else packet.pts)
                for frame in self._decode_packet(stream, packet):
                    frame.pts = self._file_order.popleft() if self._file_order else None
                    yield frame

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """To the end, which None stands for; where reading fails, it is tried a few times to go on behind it."""
        for _ in range(MAX_READ_FAILURES):
            try:
                for packet in container.demux(stream):
                    if packet.size:
                        yield packet
                break
            except av_errors() as error:
                self._note(f"The file cannot be read in places ({error_reason(error)}).")
        yield None

    def _decode_packet(self, stream: Any, packet: Any) -> Iterator[Any]:
        """A packet's frames; None gives those that the decoder holds back, perhaps behind ones that are broken."""
        for _ in range(1 if packet is not None else MAX_READ_FAILURES):
            try:
                yield from stream.codec_context.decode(packet)
                return
            except import_av().error.EOFError:
                return
            except av_errors() as error:
                self._note(f"Frames that cannot be decoded ({error_reason(error)}) were left out.")
                if self._file_order:
                    self._file_order.popleft()

    def _check_size(self, frame: Any, pts: int) -> None:
        size = (frame.width, frame.height)
        size = size[::-1] if self.info.orientation >= 5 else size
        if size != self.info.size:
            first = "{} x {}".format(*self.info.size)
            raise InputError(
                f"{self.info.path}: the frame at {self.info.seconds_at(pts):.3f} s has {size[0]} x {size[1]} pixels and the "
                f"first {first}: all must be of one size. Cut the video there: end before it, and start anew from it."
            )

    def _note_if_truncated(self, last: int | None) -> None:
        info = self.info
        if last is None or info.duration is None or not info.has_stream_duration:
            return
        reached = info.seconds_at(last) + float(info.frame_duration)
        if info.duration - reached > max(TRUNCATION_SECONDS, 2 * float(info.frame_duration)):
            self._note(
                f"The video ends after {reached:.3f} s of {info.duration:.3f}: it was cut off. What is there is restored."
            )

    def _note(self, text: str) -> None:
        if text not in self.notes and not self._is_seeking:
            self.notes.append(text)
            log.warning("%s: %s", self.info.path, text)

"""Reads a video's properties from its header and first frame: streams, size, time, colors and orientation."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, OptionsError
from ..files.path_checks import is_folder
from ..images import codecs, formats
from ..images.image import ImageData
from ..optional_packages import version_guard
from .containers import AV_TIME_BASE, av_errors, error_reason, open_input, side_data, to_fraction, to_valid_utf8
from .hdr import NO_MASTERING, Mastering, read_mastering
from .limits import raise_if_too_large
from .planes import BT709, LIMITED, OTHER_COLORS, ColorSpec, PixelFormat, Planes, is_opaque, planar_format
from .video_stream import is_cover, open_decoder, select_stream, stream_kind

STREAM_FORMATS = ("mpegts", "mpeg")
RAW_FORMATS = ("h264", "hevc")
MKVMERGE_TAG = "_STATISTICS_TAGS"
"""The tag that names mkvmerge's statistics, among them a stream's duration."""
DEFAULT_FRAME_RATE = Fraction(25)  # frames per second, if unknown
SRGB_TRANSFER = 13  # ITU-T H.273, table 3
# EXIF orientations by the matrix (a, b, c, d), which maps (x, y) to (a x + c y, b x + d y).
ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
TICK_TOLERANCE = 1e-3  # of a tick; rounding error of seconds in floating point
ROTATION_DEGREES = {1: 0, 2: 0, 3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}


@dataclass(frozen=True)
class StreamInfo:
    """One of a video's streams."""

    index: int
    kind: str
    """video, audio, subtitle, data, attachment or unknown."""
    codec: str
    """FFmpeg's name, or for an attachment the name of its file; unknown if PyAV has no decoder and no name."""
    language: str | None = None
    is_cover: bool = False
    """Whether it is a video stream with one cover image."""

    def __str__(self) -> str:
        return f"stream {self.index} ({self.kind}, {self.codec})"


@dataclass(frozen=True)
class VideoInfo:
    """A video, or a folder of images."""

    path: Path
    size: tuple[int, int]
    """Width and height in pixels as displayed, upright."""
    time_base: Fraction
    """Unit of timestamps, in seconds."""
    frame_rate: Fraction | None
    """Average frames per second."""
    duration: float | None
    """Seconds."""
    has_stream_duration: bool
    """Whether `duration` is the video stream's own. If the frames then end earlier, the file was cut off."""
    frame_count: int | None
    """Number of frames, estimated from rate and duration if the file does not have it."""
    format: str
    """FFmpeg's name of the planes' format, after the rotation."""
    decoded_format: str
    """The same before the rotation."""
    start_pts: int
    """Timestamp of the first frame, at which seconds begin."""
    colors: ColorSpec
    orientation: int
    """EXIF orientation (1 to 8) that turns the coded frames upright."""
    sample_aspect_ratio: Fraction
    """Width of a pixel divided by its height, after the rotation."""
    streams: tuple[StreamInfo, ...]
    video_index: int
    """Index of the stream that is restored; -1 for a folder."""
    codec: str
    is_folder: bool = False
    mastering: Mastering = NO_MASTERING
    clock_start: Fraction = Fraction(0)
    """Time in seconds at which the file's first stream begins, e.g. ten hours in a television recording. The output's
    clock is 0 there."""
    is_transparent: bool = False
    """Whether the first frame is not opaque."""
    is_interlaced: bool = False
    """Whether the first frame is interlaced."""
    has_file_order_timestamps: bool = False
    """Whether timestamps are in decoding order instead of display order, as in AVI files of H.264 with B-frames.
    Sorted, they are right."""
    may_be_joined: bool = False
    """Whether files of this container can be joined end to end, see `joined_parts`, so that the duration may be wrong."""

    @property
    def layout(self) -> PixelFormat:
        """The properties of `format`."""
        return PixelFormat.of(self.format)

    @property
    def bits(self) -> int:
        """Bits per sample: 8, 10, 12 or 16."""
        return self.layout.bits

    @property
    def rotation(self) -> int:
        """Clockwise rotation in degrees that turns the coded frames upright."""
        return ROTATION_DEGREES[self.orientation]

    @property
    def other_streams(self) -> tuple[StreamInfo, ...]:
        """All streams except the one that is restored."""
        return tuple(one for one in self.streams if one.index != self.video_index)

    @property
    def rate(self) -> float:
        """Average frames per second, or the default if it is unknown."""
        return float(1 / self.frame_duration)

    @property
    def frame_duration(self) -> Fraction:
        """Average duration of a frame in seconds."""
        return 1 / (self.frame_rate or DEFAULT_FRAME_RATE)

    @property
    def frame_ticks(self) -> int:
        """The same in `time_base`."""
        return max(1, round(self.frame_duration / self.time_base))

    def seconds_at(self, pts: int) -> float:
        """Convert a timestamp to seconds after the first frame."""
        return float((pts - self.start_pts) * self.time_base)

    def pts_at(self, seconds: float) -> int:
        """Return the first timestamp at or after this many seconds after the first frame."""
        return self.start_pts + math.ceil(seconds / self.time_base - TICK_TOLERANCE)

    def expected_frames(self, start: float | None, end: float | None) -> int | None:
        """Return about how many frames there are between two times in seconds, or None if it is unknown."""
        if not self.frame_count:
            return None
        first = 0 if start is None else round(start * self.rate)
        stop = self.frame_count if end is None else min(self.frame_count, round(end * self.rate))
        return max(1, stop - first)


@version_guard("av")
def probe(path: Path, fps: Fraction | None = None, max_memory: int | None = None) -> VideoInfo:
    """Read the properties of a video, or of a folder of images with `fps` frames per second (25 if None).

    Decodes the first frame. Before that, raises `ImageTooLarge` if the header says that frames are too large, and
    `OutOfMemory` if they need more than `max_memory` bytes with any encoder. Raises `InputError` if the file does not
    exist, is not a video, has no video stream, no decodable frame, or alpha that FFmpeg cannot read. Raises `OptionsError`
    for `fps` with a video, which has its own rate."""
    if is_folder(path):
        return _probe_folder(path, fps, max_memory)
    if fps is not None:
        raise OptionsError(f"{path} has its own frame rate. Set a frame rate only for a folder of images.")
    with open_input(path) as container:
        stream = select_stream(path, container)
        raise_if_too_large(path, (stream.codec_context.width, stream.codec_context.height), max_memory)
        info = _video_info(path, container, stream, *_first_frame(path, container, stream))
    if info.colors.matrix in OTHER_COLORS and not info.format.startswith("gbr"):
        colors = OTHER_COLORS[info.colors.matrix]
        raise InputError(
            f"{path} has {colors} colors, which are not supported. Convert the video to BT.709 or BT.2020 first."
        )
    return info


def _first_frame(path: Path, container: Any, stream: Any) -> tuple[Any, int]:
    """Return the first frame, and the decoding timestamp of the first packet."""
    decoder, message = open_decoder(stream), ""
    codec = stream.codec_context.name  # PyAV 19 crashes if the name is read after the decoder failed to open
    try:
        first_dts = None
        for packet in container.demux(stream):
            first_dts = packet.dts if first_dts is None else first_dts
            try:
                for frame in decoder.decode(packet):
                    return frame, first_dts or 0
            except av_errors() as error:
                message = message or error_reason(error)
    except av_errors() as error:
        message = message or error_reason(error)
    cause = f" that can be decoded ({message})" if message else ""
    raise InputError(f"{path} has no {codec} frame{cause}. Download or copy the video again.")


def _video_info(path: Path, container: Any, stream: Any, frame: Any, first_dts: int) -> VideoInfo:
    orientation = read_orientation(frame)
    name = decoded = _pixel_format(frame)
    size, aspect = (frame.width, frame.height), to_fraction(stream.sample_aspect_ratio) or Fraction(1)
    if orientation >= 5:
        name, size, aspect = PixelFormat.of(name).rotated.name, size[::-1], 1 / aspect
    context = stream.codec_context
    is_counted = container.format.name == "avi" and context.name in ("h264", "hevc") and bool(context.has_b_frames)
    may_be_joined = container.format.name in STREAM_FORMATS
    rate, stream_duration = _frame_rate(container, stream), _stream_duration(stream, frame.pts or 0)
    seconds = stream_duration or (container.duration / AV_TIME_BASE if container.duration else None)
    count = stream.frames or (round(seconds * rate) if seconds and rate else None)
    return VideoInfo(
        path=path,
        size=size,
        time_base=to_fraction(stream.time_base),
        frame_rate=rate,
        duration=seconds,
        has_stream_duration=stream_duration is not None and not may_be_joined,
        frame_count=count,
        format=name,
        decoded_format=decoded,
        start_pts=first_dts if is_counted else frame.pts or 0,
        colors=_color_spec(context, frame),
        orientation=orientation,
        sample_aspect_ratio=aspect,
        streams=tuple(_stream_info(one) for one in container.streams),
        video_index=stream.index,
        codec=context.name,
        mastering=read_mastering(frame),
        clock_start=_clock_start(container, to_fraction(stream.time_base)),
        is_transparent=_is_transparent(frame, decoded),
        is_interlaced=bool(frame.interlaced_frame),
        has_file_order_timestamps=is_counted,
        may_be_joined=may_be_joined,
    )


def interlaced_message(path: Path) -> str:
    """Return the error message for interlaced videos that are refused."""
    return (
        f"{path} is interlaced: each frame has two moments in alternate rows. Set interlaced to deinterlace, or to keep if "
        "it is only marked as interlaced."
    )


def _is_transparent(frame: Any, name: str) -> bool:
    layout = PixelFormat.of(name)
    return layout.has_alpha and not is_opaque(Planes.from_frame(frame, name, ColorSpec()).alpha, layout.bits)


def _clock_start(container: Any, time_base: Fraction) -> Fraction:
    """Return the start in whole ticks, so that timestamps stay exact; 0 if the file begins before 0."""
    ticks = Fraction(container.start_time or 0, AV_TIME_BASE) / time_base  # rounded to microseconds
    return max(Fraction(0), math.floor(ticks + Fraction(1, 10)) * time_base)


def _pixel_format(frame: Any) -> str:
    components = frame.format.components
    has_alpha = any(one.is_alpha for one in components) and frame.format.name != "pal8"
    return planar_format(frame.format.name, max(one.bits for one in components), frame.format.is_rgb, has_alpha)


def _frame_rate(container: Any, stream: Any) -> Fraction | None:
    rates = [to_fraction(stream.average_rate), to_fraction(stream.guessed_rate)]
    if container.format.name in RAW_FORMATS:  # has no rate, and FFmpeg assumes 25 frames per second
        rates.insert(0, to_fraction(stream.codec_context.framerate))
    return next((rate for rate in rates if 0 < rate <= 1000), None)


def _stream_duration(stream: Any, start_pts: int) -> float | None:
    """Return the duration of the video stream in seconds. Audio may be longer."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    parsed = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if parsed is None:
        return None
    seconds = int(parsed[1]) * 3600 + int(parsed[2]) * 60 + float(parsed[3])
    if MKVMERGE_TAG in stream.metadata:
        return seconds
    return max(0.0, seconds - max(0.0, float(start_pts * stream.time_base))) or None  # FFmpeg writes the time of the end


def _color_spec(context: Any, frame: Any) -> ColorSpec:
    full = 2 if frame.format.name.startswith("yuvj") else 0
    range_ = full or int(context.color_range) or int(frame.color_range)
    return ColorSpec(range_, int(context.colorspace), int(context.color_primaries), int(context.color_trc))


def _stream_info(stream: Any) -> StreamInfo:
    context = stream.codec_context  # whose own name is the decoder's: dca for dts, pgssub for hdmv_pgs_subtitle
    name = context.codec.canonical_name if context is not None else getattr(stream, "name", None)
    kind = stream_kind(stream)
    if kind == "data" and "timecode" in stream.metadata:
        name = "tmcd"
    language = None if stream.language is None else to_valid_utf8(stream.language)
    return StreamInfo(stream.index, kind, to_valid_utf8(name or "unknown"), language, is_cover(stream))


def read_orientation(frame: Any) -> int:
    """Return the EXIF orientation (1 to 8) of a PyAV frame's display matrix; 1 without one, and for other angles."""
    matrix = side_data(frame, "DISPLAYMATRIX")
    if matrix is None:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    return ORIENTATIONS.get(tuple((v > 0x8000) - (v < -0x8000) for v in (a, b, c, d)), 1)


def frame_files(folder: Path) -> list[Path]:
    """Return a folder's images in natural order: 2 before 10."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in formats.OUTPUT_SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return sorted(paths, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def read_frame(path: Path, size: tuple[int, int] | None = None, max_memory: int | None = None) -> codecs.EncodedImage:
    """Read a frame of a folder. Raises `InputError` if its size is not `size`, and `OutOfMemory` as `codecs.read` does."""
    encoded = codecs.read(path, max_memory)
    if size is not None and encoded.image.size != size:
        size_text = "{} x {}".format(*encoded.image.size)
        raise InputError(
            f"{path} is {size_text} px, but the first frame is {size[0]} x {size[1]} px. All frames must have one size."
        )
    return encoded


def _probe_folder(path: Path, fps: Fraction | None, max_memory: int | None) -> VideoInfo:
    paths = frame_files(path)
    if not paths:
        raise InputError(
            f"{path} contains no images ({', '.join(formats.OUTPUT_SUFFIXES)}). Name a video or a folder of frames."
        )
    rate = DEFAULT_FRAME_RATE if fps is None else fps
    if rate <= 0:
        raise OptionsError(f"Expected a frame rate above 0, got {rate}.")
    image = read_frame(paths[0], max_memory=max_memory).image
    bits = 8 if image.max_value == 255 else 16
    name = PixelFormat("gbrp", 1, 1, bits, image.alpha is not None).name
    return VideoInfo(
        path=path,
        size=image.size,
        time_base=1 / rate,
        frame_rate=rate,
        duration=float(len(paths) / rate),
        has_stream_duration=True,
        frame_count=len(paths),
        format=name,
        decoded_format=name,
        start_pts=0,
        colors=ColorSpec(LIMITED, BT709, BT709, SRGB_TRANSFER),
        orientation=1,
        sample_aspect_ratio=Fraction(1),
        streams=(),
        video_index=-1,
        codec="images",
        is_folder=True,
        is_transparent=not is_opaque(image.alpha, bits),
    )


def as_rgb(image: ImageData) -> ImageData:
    """Convert an image to RGB without alpha."""
    pixels = image.pixels if image.pixels.shape[2] == 3 else image.pixels.repeat(3, axis=2)
    return ImageData(pixels)

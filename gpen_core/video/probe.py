"""What is known of a film before it is decoded: its streams, size, time, colours and how it is turned."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, OptionsError
from ..images import codecs
from ..images.image import Picture
from ..optional_packages import calls_of
from .containers import MICROSECONDS, failures, fraction, open_input, readable, reason, side_data
from .hdr import NOTHING_SAID, Mastering, mastering_of
from .limits import refuse_large
from .planes import BT709, LIMITED, Colours, Layout, plain_format

FOLDER_RATE = Fraction(25)  # pictures a second, where nothing else is said
SRGB = 13  # ITU-T H.273, table 3
# The matrix (a, b, c, d) takes (x, y) to (a x + c y, b x + d y): as the EXIF orientation that does the same.
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
ROUNDING = 1e-3  # of a tick: what seconds in floating point may be off
ANGLES = {1: 0, 2: 0, 3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}


@dataclass(frozen=True)
class Stream:
    """One of a film's streams."""

    index: int
    kind: str
    """video, audio, subtitle, data or attachment."""
    codec: str
    """FFmpeg's name; of an attachment, its file's name."""
    language: str | None = None
    is_picture: bool = False
    """A video stream that is one cover picture."""

    def __str__(self) -> str:
        return f"stream {self.index} ({self.kind}, {self.codec})"


@dataclass(frozen=True)
class Film:
    """A film, or a folder of pictures."""

    path: Path
    size: tuple[int, int]
    """Width and height in pixels as displayed, upright."""
    time_base: Fraction
    """Seconds of a frame's `pts`."""
    rate: Fraction | None
    """Frames a second, on average."""
    seconds: float | None
    is_length_said: bool
    """Whether the length is the video stream's own, as the file says it: if frames end before, it was cut off."""
    count: int | None
    """Frames, estimated from rate and length where the file does not say."""
    format: str
    """FFmpeg's name of the planes' layout, upright."""
    decoded_format: str
    """The same before it is turned."""
    origin: int
    """`pts` of the first frame, from which on seconds are counted."""
    colours: Colours
    orientation: int
    """How the coded frames are turned to be upright, as EXIF says it, 1 to 8."""
    aspect: Fraction
    """Width of a pixel to its height, upright."""
    streams: tuple[Stream, ...]
    video: int
    """Index of the stream that is restored; -1 for a folder."""
    codec: str
    is_folder: bool = False
    mastering: Mastering = NOTHING_SAID

    @property
    def bits(self) -> int:
        """Of a sample: 8, 10, 12 or 16."""
        layout = Layout.of(self.format)
        assert layout is not None
        return layout.bits

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the coded frames are turned to be upright."""
        return ANGLES[self.orientation]

    @property
    def others(self) -> tuple[Stream, ...]:
        """What is copied: all streams but the one that is restored."""
        return tuple(one for one in self.streams if one.index != self.video)

    @property
    def frame_seconds(self) -> Fraction:
        """How long a frame is shown, on average."""
        return 1 / (self.rate or FOLDER_RATE)

    @property
    def frame_ticks(self) -> int:
        """The same in `time_base`."""
        return max(1, round(self.frame_seconds / self.time_base))

    def seconds_at(self, pts: int) -> float:
        """From the first frame on."""
        return float((pts - self.origin) * self.time_base)

    def pts_at(self, seconds: float) -> int:
        """The first timestamp that is not before so many seconds after the first frame."""
        return self.origin + math.ceil(seconds / self.time_base - ROUNDING)


@calls_of("av")
def probe(path: Path, fps: Fraction | None = None, max_memory: int | None = None) -> Film:
    """Looks at a film, or at a folder of pictures shown at `fps` a second (25 where that is None).

    The first frame is decoded, unless the header says that frames are too large (`TooLarge`), or take more than `max_memory`
    bytes with any encoder (`OutOfMemory`).
    Raises `InputError` for a file that is not there, is no film, has no video stream, no frame
    that can be decoded, or alpha; `OptionsError` for `fps` with a film that has a rate of its own."""
    if path.is_dir():
        return _probe_folder(path, fps, max_memory)
    if fps is not None:
        raise OptionsError(f"{path} has timestamps of its own: a frame rate can be set for a folder of pictures only.")
    with open_input(path) as container:
        stream = _video_stream(path, container)
        _refuse_alpha(path, stream)
        refuse_large(path, (stream.codec_context.width, stream.codec_context.height), max_memory)
        frame = _first_frame(path, container, stream)
        return _film(path, container, stream, frame)


def _video_stream(path: Path, container: Any) -> Any:
    streams = [one for one in container.streams.video if not _is_picture(one)]
    if not streams:
        kinds = ", ".join(dict.fromkeys(one.type for one in container.streams)) or "nothing"
        raise InputError(f"{path} has no video stream, only {kinds}. Name a film.")
    if streams[0].codec_context is None:
        raise InputError(f"{path}: no decoder for its video stream is part of this PyAV. Convert the film to H.264 first.")
    return streams[0]


def _is_picture(stream: Any) -> bool:
    return stream.type == "video" and bool(stream.disposition.value & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def _refuse_alpha(path: Path, stream: Any, format_: Any = None) -> None:
    format_ = format_ or stream.codec_context.format
    alpha = stream.metadata.get("alpha_mode") == "1"
    if format_ is not None and format_.name != "pal8":
        alpha |= any(component.is_alpha for component in format_.components)
    if alpha:
        named = format_.name if format_ is not None else "alpha_mode"
        raise InputError(
            f"{path} has an alpha channel ({named}), which is not supported: it would be lost. Restore a film without it, "
            "or save the frames as pictures and restore these with `gpen restore`, which keeps alpha."
        )


def _first_frame(path: Path, container: Any, stream: Any) -> Any:
    said, codec = "", stream.codec_context.name  # PyAV 19 crashes where the context is asked after it could not be opened
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame
            except failures() as error:
                said = said or reason(error)
    except failures() as error:
        said = said or reason(error)
    why = f" that can be decoded ({said})" if said else ""
    raise InputError(f"{path} holds no frame{why}. Get the film anew; the video stream is {codec}.")


def _film(path: Path, container: Any, stream: Any, frame: Any) -> Film:
    _refuse_alpha(path, stream, frame.format)
    orientation = orientation_of(frame)
    name = decoded = _format(frame)
    size, aspect = (frame.width, frame.height), fraction(stream.sample_aspect_ratio) or Fraction(1)
    if orientation >= 5:
        layout = Layout.of(name)
        assert layout is not None
        name, size, aspect = layout.turned.name, size[::-1], 1 / aspect
    rate, own = _rate(stream), _own_seconds(stream)
    seconds = own or (container.duration / MICROSECONDS if container.duration else None)
    count = stream.frames or (round(seconds * rate) if seconds and rate else None)
    return Film(
        path=path,
        size=size,
        time_base=fraction(stream.time_base),
        rate=rate,
        seconds=seconds,
        is_length_said=own is not None,
        count=count,
        format=name,
        decoded_format=decoded,
        origin=frame.pts or 0,
        colours=_colours(stream.codec_context, frame),
        orientation=orientation,
        aspect=aspect,
        streams=tuple(_stream(one) for one in container.streams),
        video=stream.index,
        codec=stream.codec_context.name,
        mastering=mastering_of(frame),
    )


def _format(frame: Any) -> str:
    components = frame.format.components
    return plain_format(frame.format.name, max(one.bits for one in components), frame.format.is_rgb)


def _rate(stream: Any) -> Fraction | None:
    for rate in (fraction(stream.average_rate), fraction(stream.guessed_rate)):
        if 0 < rate <= 1000:
            return rate
    return None


def _own_seconds(stream: Any) -> float | None:
    """Of the video stream; sound may be longer."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    told = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if told:  # Matroska's statistics
        return int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])
    return None


def _colours(context: Any, frame: Any) -> Colours:
    full = 2 if frame.format.name.startswith("yuvj") else 0
    return Colours(
        full or int(context.color_range) or int(frame.color_range),
        int(context.colorspace),
        int(context.color_primaries),
        int(context.color_trc),
    )


def _stream(stream: Any) -> Stream:
    name = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    if stream.type == "data" and "timecode" in stream.metadata:
        name = "tmcd"
    language = None if stream.language is None else readable(stream.language)
    return Stream(stream.index, stream.type or "data", readable(name or "unknown"), language, _is_picture(stream))


def orientation_of(frame: Any) -> int:
    """The EXIF orientation (1 to 8) of a PyAV frame's display matrix; 1 for none, and for angles between."""
    matrix = side_data(frame, "DISPLAYMATRIX")
    if matrix is None:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    return ORIENTATIONS.get(tuple((v > 0x8000) - (v < -0x8000) for v in (a, b, c, d)), 1)


def frame_files(folder: Path) -> list[Path]:
    """A folder's pictures in natural order: 2 before 10."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in codecs.SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def read_frame(path: Path, size: tuple[int, int] | None = None, max_memory: int | None = None) -> codecs.Photo:
    """A frame of a folder, in RGB. Raises `InputError` if it has alpha or is of another size than `size`, and `OutOfMemory`
    as `codecs.read` does."""
    photo = codecs.read(path, max_memory)
    if photo.picture.alpha is not None:
        raise InputError(f"{path} has an alpha channel, which is not supported in a film. Save the frames without it.")
    if size is not None and photo.picture.size != size:
        got = "{} x {}".format(*photo.picture.size)
        raise InputError(f"{path} has {got} pixels and the first frame {size[0]} x {size[1]}: all must be of one size.")
    return photo


def _probe_folder(path: Path, fps: Fraction | None, max_memory: int | None) -> Film:
    paths = frame_files(path)
    if not paths:
        raise InputError(f"{path} holds no pictures ({', '.join(codecs.SUFFIXES)}). Name a film or a folder of frames.")
    rate = FOLDER_RATE if fps is None else fps
    if rate <= 0:
        raise OptionsError(f"Expected a frame rate above 0, got {rate}.")
    picture = read_frame(paths[0], max_memory=max_memory).picture
    name = "gbrp" if picture.peak == 255 else "gbrp16le"
    return Film(
        path=path,
        size=picture.size,
        time_base=1 / rate,
        rate=rate,
        seconds=float(len(paths) / rate),
        is_length_said=True,
        count=len(paths),
        format=name,
        decoded_format=name,
        origin=0,
        colours=Colours(LIMITED, BT709, BT709, SRGB),
        orientation=1,
        aspect=Fraction(1),
        streams=(),
        video=-1,
        codec="pictures",
        is_folder=True,
    )


def rgb_picture(picture: Picture) -> Picture:
    """Grey as RGB, which frames are."""
    return picture if picture.pixels.shape[2] == 3 else Picture(picture.pixels.repeat(3, axis=2))

"""PyAV, imported here only and when first used, and files opened through it.

Everything in this folder works with PyAV 14.2, which ComfyUI asks for, to 19. What later versions add is used where it is
there: attachments and data streams, chapters. What they changed is handled here: `to_fraction`, `side_data`,
`_metadata_options`.

A file is read through a Python file object, never by its name: FFmpeg takes a name for a URL (`http:`, `concat:`) or for a
pattern (`frame%03d.png`). No container may open another file, and playlists are no containers.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, MissingDependency, first_line
from ..files.regular_file import open_regular_file
from . import matroska
from .limits import limit_decoders

log = logging.getLogger(__name__)

OUTPUT_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
    ".nut": "nut",
    ".flv": "flv",
    ".mxf": "mxf",
}
"""FFmpeg's names of the containers that are written."""
INPUT_FORMATS = (
    "mov",  # also mp4, m4v and 3gp
    "matroska",  # also webm
    "mpegts",
    "mpeg",
    "h264",
    "hevc",
    "avi",
    "flv",
    "asf",
    "gif",
    "ogg",
    "mxf",
    "nut",
)
"""FFmpeg's names of the containers that are read: each holds its video itself."""
INPUT_OPTIONS = {"format_whitelist": ",".join(INPUT_FORMATS), "protocol_whitelist": "none"}
"""FFmpeg's options for reading: these containers only, and no other file is opened, whatever the container asks for."""
SIGNATURES = {
    b"#EXTM3U": "an HLS playlist",
    b"ffconcat": "a playlist (ffconcat)",
    b"[playlist]": "a playlist",
    b"<?xml": "an XML file",
    b"<MPD": "a DASH manifest",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"BM": "an image",
    b"II*\x00": "an image",
    b"MM\x00*": "an image",
    b"RIFF": "an image or a sound file",  # AVI, which is RIFF as well, is read
}
"""What files that are not read begin with."""
OPEN_TIMEOUT = 60.0  # that reading a header may take
BUFFER_SIZE = 1 << 18  # bytes that are read at once
MAX_PACKET_DURATION = 2**31 - 1  # of a packet, in its time base: PyAV 14 can set no more
AV_TIME_BASE = 1_000_000  # AV_TIME_BASE: a container's duration


def import_av() -> Any:
    """PyAV, with FFmpeg's log off, as PyAV has it by default. Raises `MissingDependency` where it is not installed.

    Older torchvision turns the log on. With PyAV 14 each message then takes Python's lock, also in a decoder's own threads,
    and a decoder that Python frees meanwhile waits for these threads forever."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise MissingDependency(
            f'To read and write videos, PyAV is needed ({first_line(error)}). Install it: pip install "sd-gpen[video]"'
        ) from error
    if av.logging.get_level() is not None:
        av.logging.set_level(None)
    return av


def to_fraction(value: Any) -> Fraction:
    """A time base, rate or aspect ratio, 0 if it is not set: PyAV 19 has a type of its own for them."""
    return Fraction(value.numerator, value.denominator) if value and value.denominator else Fraction(0)


def side_data(frame: Any, kind: str) -> bytes | None:
    """A frame's side data of that kind, by the name of FFmpeg's constant. Iteration gives keys or values, by the version."""
    try:
        found = frame.side_data.get(kind)
    except ValueError as error:  # of another kind that PyAV before 19 does not know
        log.warning("This PyAV cannot read the side data of frames (%s). Update it: pip install -U av", error)
        return None
    return None if found is None else bytes(found)


def _metadata_options() -> dict[str, str]:
    """For `open`: metadata that is no UTF-8 keeps its bytes, as always since PyAV 19."""
    return {"metadata_errors": "surrogateescape"} if hasattr(import_av().container.Container, "metadata_errors") else {}


def to_valid_utf8(text: str) -> str:
    """Metadata to be shown or kept: what is no UTF-8 in it is replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def open_output(path: Path, format_: str, time_base: Fraction, is_segment: bool = False) -> Any:
    """A container to be written, whose clock counts in `time_base` where it has one. A segment is not for players."""
    options = dict(matroska.MUXER_OPTIONS) if format_ in ("matroska", "webm") else {}
    if format_ in ("mp4", "mov"):
        options["movie_timescale"] = str(max(1000, time_base.denominator))  # that of the offset of the first frame
        options["video_track_timescale"] = str(time_base.denominator)
        if not is_segment:
            options["movflags"] = "+faststart"  # the index before the frames: players begin before all is downloaded
    if format_ == "avi":  # has no timestamps: sound that begins a little before the video must not move it by a whole frame
        options["avoid_negative_ts"] = "disabled"
    url = f"file:{path.absolute()}"  # a path, whatever its name looks like
    return import_av().open(url, "w", format=format_, container_options=options, **_metadata_options())


@contextlib.contextmanager
def open_null_output(suffix: str) -> Iterator[Any]:
    """A container of that kind that is written nowhere."""
    container = import_av().open(io.BytesIO(), "w", format=OUTPUT_FORMATS[suffix])
    try:
        yield container
    finally:
        with contextlib.suppress(*av_errors()):
            container.close()


def supports_chapters() -> bool:
    """Whether this PyAV reads and writes them."""
    return hasattr(import_av().container.InputContainer, "chapters")


def av_errors() -> tuple[type[BaseException], ...]:
    """What PyAV raises where a file, a codec or the disk fails."""
    return (import_av().error.FFmpegError, OSError, ValueError)


def error_reason(error: BaseException) -> str:
    """Why it failed, without the name that PyAV adds."""
    return getattr(error, "strerror", None) or first_line(error) or type(error).__name__


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[Any]:
    """The video's container, open to be read. Raises `InputError` if it cannot be opened or is not one of
    `INPUT_FORMATS`."""
    try:
        file, _ = open_regular_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error_reason(error)}.") from error
    with file, _open_container(path, file) as container:
        limit_decoders(container)
        yield container


def _open_container(path: Path, file: BinaryIO) -> Any:
    try:
        # Without options for streams: PyAV 14 crashes where a container (MPG, FLV) tells of its streams later.
        return import_av().open(
            file,
            container_options=INPUT_OPTIONS,
            buffer_size=BUFFER_SIZE,
            timeout=(OPEN_TIMEOUT, None),
            **_metadata_options(),
        )
    except av_errors() as error:
        if getattr(error, "errno", None) == errno.EINVAL:
            raise InputError(
                f"{path} is {_describe_content(file)}, not a video in a container that is read here "
                f"({', '.join(INPUT_FORMATS)}). Name the video itself, or a folder of frames."
            ) from error
        if isinstance(error, import_av().error.ExitError):
            raise InputError(f"{path} cannot be read: its header took more than {OPEN_TIMEOUT:g} s.") from error
        raise InputError(
            f"{path} cannot be read as a video ({error_reason(error)}). It may not be a video, or may be cut off: recording "
            "or copying ended early. Get it again, or repair it with the program that recorded it."
        ) from error


def _describe_content(file: BinaryIO) -> str:
    file.seek(0)
    head = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((kind for sign, kind in SIGNATURES.items() if head.startswith(sign)), "of another kind")

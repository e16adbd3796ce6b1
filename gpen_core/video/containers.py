"""Imports PyAV on first use, and opens files with it.

This package supports PyAV 14.2, which ComfyUI requires, to 19. Features of later versions are used if available:
attachments, data streams and chapters. `to_fraction`, `side_data` and `_metadata_options` handle the differences.

Files are read through a Python file object, never by name, because FFmpeg interprets a name as a URL (`http:`, `concat:`)
or a pattern (`frame%03d.png`). No container may open another file, so playlists are refused.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, MissingDependency, OutputError, first_line
from ..files.regular_file import open_regular_file
from ..optional_packages import install_command
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
"""FFmpeg's names of the containers that can be written."""
INPUT_FORMATS = (
    "mov",  # also mp4, m4v and 3gp
    "matroska",  # also webm
    "mpegts",
    "mpeg",
    "h264",
    "hevc",
    "avi",
    "dv",  # of MiniDV cameras
    "flv",
    "asf",
    "gif",
    "apng",
    "webp_anim",  # of FFmpeg 9
    "ogg",
    "mxf",
    "nut",
)
"""FFmpeg's names of the containers that can be read. Each contains its video itself."""
INPUT_SUFFIXES = (
    *OUTPUT_FORMATS,
    *(".3g2", ".3gp", ".asf", ".dv", ".f4v", ".gif", ".h264", ".h265"),
    *(".hevc", ".m2v", ".mpeg", ".mpg", ".mts", ".ogv", ".qt", ".vob", ".wmv"),
)
"""Suffixes by which videos are recognized in folders."""
INPUT_OPTIONS = {"format_whitelist": ",".join(INPUT_FORMATS), "protocol_whitelist": "none"}
"""FFmpeg's options for reading: it accepts these containers only and opens no other file."""
KEYED_METADATA = ("com.apple.", "com.android.")
"""Prefixes of metadata that phones write, such as the place. FFmpeg writes it into .mov and .mp4 only with keys instead of
iTunes' atoms (QuickTime File Format, Metadata Item Keys Atom)."""
FILE_TYPE_TAGS = ("major_brand", "minor_version", "compatible_brands")
"""The input's type as FFmpeg reads it from MP4. It is wrong for another file."""
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
    b"RIFF": "an image or an audio file",  # AVI and animated WebP are also RIFF, but FFmpeg reads them
}
"""The first bytes of files that are refused, with a description for the error."""
OPEN_TIMEOUT = 60.0  # seconds to read a header
BUFFER_SIZE = 1 << 18  # bytes per read
MAX_PACKET_DURATION = 2**31 - 1  # in the packet's time base; the limit of PyAV 14
DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
AV_TIME_BASE = 1_000_000  # FFmpeg's unit of a container's duration, per second


def import_av() -> Any:
    """Import PyAV with FFmpeg's log off, which is PyAV's default. Raises `MissingDependency` if it is not installed.

    Older torchvision turns the log on. With PyAV 14, each message then needs the GIL, also in a decoder's own threads. A
    decoder that Python frees at that moment waits for these threads forever."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise MissingDependency(
            f"PyAV is needed to read and write videos ({first_line(error)}). Install it: {install_command('av')}"
        ) from error
    if av.logging.get_level() is not None:
        av.logging.set_level(None)
    return av


def to_fraction(value: Any) -> Fraction:
    """Convert a time base, rate or aspect ratio to a Fraction, 0 if it is not set. PyAV 19 has its own type for them."""
    return Fraction(value.numerator, value.denominator) if value and value.denominator else Fraction(0)


def side_data(frame: Any, kind: str) -> bytes | None:
    """Return a frame's side data by the name of FFmpeg's constant, or None."""
    try:
        found = frame.side_data.get(kind)
    except ValueError as error:  # PyAV before 19 does not know some kinds
        log.warning("This PyAV cannot read the side data of frames (%s). Update it: %s", error, install_command("av", "-U"))
        return None
    return None if found is None else bytes(found)


def _metadata_options() -> dict[str, str]:
    """Return options of `open` that keep the bytes of metadata that is not UTF-8, as PyAV 19 always does."""
    return {"metadata_errors": "surrogateescape"} if hasattr(import_av().container.Container, "metadata_errors") else {}


def to_valid_utf8(text: str) -> str:
    """Replace the bytes of metadata that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def open_output(
    path: Path,
    format_: str,
    time_base: Fraction,
    is_segment: bool = False,
    is_m2ts: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Open a container for writing, with the clock `time_base` if it has a clock. Segments are not for players.

    `is_m2ts` makes the packets of an MPEG transport stream those of Blu-rays and cameras. `metadata`: that of the file."""
    options = dict(matroska.MUXER_OPTIONS) if format_ in ("matroska", "webm") else {}
    if is_m2ts:
        options["mpegts_m2ts_mode"] = "1"  # FFmpeg would look at the name of the temporary file
    if format_ in ("mp4", "mov"):
        options["movie_timescale"] = str(max(1000, time_base.denominator))  # clock of the first frame's offset
        options["video_track_timescale"] = str(time_base.denominator)
        if not is_segment:
            options["movflags"] = "+faststart"  # puts the index first, so that players start before the download ends
            if any(key.startswith(KEYED_METADATA) for key in metadata or ()):
                options["movflags"] += "+use_metadata_tags"
    if format_ == "avi":  # has no timestamps; audio that begins shortly before the video must not shift it by a frame
        options["avoid_negative_ts"] = "disabled"
    url = f"file:{path.absolute()}"  # always a path, even if the name looks like a URL
    container = import_av().open(url, "w", format=format_, container_options=options, **_metadata_options())
    container.metadata.update(_kept_metadata(metadata or {}))
    return container


def _kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of a file for a new one.

    FFmpeg writes keyed metadata with the date in two places. Since version 9, it reads them as one text, joined by `;`."""
    kept = {key: value for key, value in metadata.items() if key.lower() not in FILE_TYPE_TAGS}
    return {key: value.partition(";")[0] if key == "creation_time" else value for key, value in kept.items()}


@contextlib.contextmanager
def open_null_output(suffix: str) -> Iterator[Any]:
    """Open a container of that type in memory, to test what it accepts."""
    container = import_av().open(io.BytesIO(), "w", format=OUTPUT_FORMATS[suffix])
    try:
        yield container
    finally:
        with contextlib.suppress(*av_errors()):
            container.close()


def supports_chapters() -> bool:
    """Whether this version of PyAV reads and writes chapters."""
    return hasattr(import_av().container.InputContainer, "chapters")


def av_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions that PyAV raises if a file, a codec or the disk fails."""
    return (import_av().error.FFmpegError, OSError, ValueError)


def error_reason(error: BaseException) -> str:
    """Return the reason of an error, without the file name that PyAV adds."""
    return getattr(error, "strerror", None) or first_line(error) or type(error).__name__


def write_error(path: Path, error: BaseException) -> OutputError:
    """Return the error for a part of the output that cannot be written, because of one of `av_errors`."""
    is_full = getattr(error, "errno", None) in DISK_FULL
    advice = "free some space and run again" if is_full else "choose another folder or another container, such as .mkv"
    return OutputError(f"{path} cannot be written: {error_reason(error)}. The finished segments are kept; {advice}.")


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[Any]:
    """Open a video for reading. Raises `InputError` if that fails or if it is not one of `INPUT_FORMATS`."""
    try:
        file, _ = open_regular_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error_reason(error)}.") from error
    with file, _open_container(path, file) as container:
        limit_decoders(container)
        yield container


def _open_container(path: Path, file: BinaryIO) -> Any:
    try:
        # Without stream options, because PyAV 14 crashes if a container (MPG, FLV) announces its streams later.
        return import_av().open(
            file,
            container_options=INPUT_OPTIONS,
            buffer_size=BUFFER_SIZE,
            timeout=(OPEN_TIMEOUT, None),
            **_metadata_options(),
        )
    except av_errors() as error:
        if getattr(error, "errno", None) == errno.EINVAL:
            if not supports_animated_webp() and _is_animated_webp(file):
                raise InputError(
                    f"{path} is an animated WebP, which needs PyAV 19 (this is {import_av().__version__}). Run `pip install "
                    "-U av` with Python 3.12 or later, or save it as GIF or MP4 first."
                ) from error
            raise InputError(not_a_video_message(path, _describe_content(file))) from error
        if isinstance(error, import_av().error.ExitError):
            raise InputError(f"{path} cannot be read: reading its header took more than {OPEN_TIMEOUT:g} s.") from error
        raise InputError(
            f"{path} cannot be read as a video ({error_reason(error)}). It may be cut off: copy it again, or repair it with "
            "the program that recorded it."
        ) from error


def not_a_video_message(path: Path, content: str) -> str:
    """Return the error message for a file that is not a video. `content`: what it is."""
    return (
        f"{path} is {content}, not a supported video ({', '.join(INPUT_FORMATS)}). Name the video itself, or a folder of "
        "frames."
    )


def supports_animated_webp() -> bool:
    """Whether this version of PyAV reads animated WebP."""
    return "webp_anim" in import_av().formats_available


def _is_animated_webp(file: BinaryIO) -> bool:
    """Whether the header says so (RFC 9649, 2.7.1)."""
    file.seek(0)
    head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _describe_content(file: BinaryIO) -> str:
    file.seek(0)
    head = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((kind for sign, kind in SIGNATURES.items() if head.startswith(sign)), "another kind of file")

"""Streams that go from one file into another packet by packet, as they are."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

from .containers import import_av, open_input
from .probe import StreamInfo

GENERATED_CODECS = ("tmcd", "bin_data")
TS_CODECS = frozenset(
    (
        *("aac", "aac_latm", "mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "s302m"),
        *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "klv", "timed_id3", "scte_35", "smpte_2038", "epg"),
    )
)
"""What an MPEG transport stream has a name for (FFmpeg's `mpegtsenc.c`). Players do not know anything else in it."""
COVER_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif", "webp": "image/webp"}
"""MIME types of cover images by FFmpeg's codec."""
MP4_COVERS = ("mjpeg", "png", "bmp")
"""Cover images that an MP4 file can hold (`covr`, QuickTime's metadata)."""


def add_stream_copy(container: Any, stream: Any) -> Any:
    """A stream of an output like one of an input. Raises what PyAV does where the container has no place for it."""
    if stream.codec_context is None and not hasattr(container, "add_attachment"):
        raise ValueError("this PyAV crashes on streams without a codec")
    copy = container.add_stream_from_template(stream, opaque=True)
    set_time_base(copy, stream.time_base)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition.value
    return copy


def set_time_base(stream: Any, time_base: Fraction) -> None:
    """Asks a container for that clock; PyAV 14 cannot for a stream that is copied, the container chooses then."""
    with contextlib.suppress(RuntimeError):
        stream.time_base = time_base


def is_generated(stream: StreamInfo) -> bool:
    """Whether a container writes it by itself: QuickTime's timecode, from metadata, and the texts of chapters."""
    return stream.kind == "data" and stream.codec in GENERATED_CODECS


def ts_can_name(stream: StreamInfo) -> bool:
    """Whether players find out from an MPEG transport stream what is in it."""
    return stream.codec in TS_CODECS


def holds_cover(format_: str, cover: StreamInfo) -> bool:
    """Whether a container has a place for a cover image: FFmpeg writes a second video into all others."""
    if format_ == "matroska":
        return cover.codec in COVER_TYPES and hasattr(import_av().container.OutputContainer, "add_attachment")
    return format_ == "mp4" and cover.codec in MP4_COVERS


def read_packet(path: Path, index: int) -> bytes:
    """The first packet of a stream: of a cover, the image. Empty where there is none."""
    with open_input(path) as source:
        return next((bytes(packet) for packet in source.demux(source.streams[index]) if packet.size), b"")


def attach_cover(container: Any, stream: Any, data: bytes) -> None:
    """Puts a cover image into a Matroska container, which holds it as an attachment (RFC 9559, 21.1)."""
    codec = stream.codec_context.name
    name = stream.metadata.get("filename") or f"cover.{'jpg' if codec == 'mjpeg' else codec}"
    container.add_attachment(name, stream.metadata.get("mimetype") or COVER_TYPES[codec], data)


def cover_packet(stream: Any, data: bytes) -> Any:
    """A cover image for an MP4 container, which has no time."""
    packet = import_av().Packet(data)
    packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 1000), 0, 0
    packet.is_keyframe = True
    return packet

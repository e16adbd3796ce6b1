"""Copies streams from one file to another packet by packet."""

from __future__ import annotations

import contextlib
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

from .containers import import_av, open_input
from .probe import StreamInfo

GENERATED_CODECS = ("tmcd", "bin_data")
TS_CODECS = frozenset(
    (
        *("aac", "aac_latm", "mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "s302m"),
        *("dvb_subtitle", "dvb_teletext", "klv", "timed_id3", "scte_35", "smpte_2038", "epg"),
    )
)
"""Codecs that an MPEG transport stream can identify (FFmpeg's `mpegtsenc.c`). Players cannot play others in it."""
COVER_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif", "webp": "image/webp"}
"""MIME types of cover images by FFmpeg's codec."""
MP4_COVERS = ("mjpeg", "png", "bmp")
"""Cover images that an MP4 file can hold (`covr`, QuickTime's metadata)."""
MOV_LANGUAGES = {"deu": "ger", "fre": "fra", "nld": "dut", "zho": "chi", "ell": "gre", "isl": "ice", "sqi": "alb"}
"""Languages with two codes in ISO 639-2, and the one of QuickTime's list. FFmpeg drops the other from .mov files."""
FRAMED_CODECS = ("mp2", "mp3", "ac3", "eac3", "aac")
"""Sound whose packets last equally long, whatever their size."""


def add_stream_copy(container: Any, stream: Any, path: Path) -> Any:
    """Add a copy of a stream of the input `path` to an output. Raises PyAV's error if the container cannot hold it.

    MP4 needs the order of PCM's channels, which Matroska and AVI do not have. Without it, only its trailer would fail."""
    if stream.codec_context is None and not hasattr(container, "add_attachment"):
        raise ValueError("this PyAV crashes on streams without a codec")
    is_framed = stream.codec_context is not None and stream.codec_context.codec.canonical_name in FRAMED_CODECS
    if container.format.name == "avi" and is_framed:
        copy = _add_without_block_size(container, stream, read_packet(path, stream.index))
    else:
        copy = container.add_stream_from_template(stream, opaque=True)
    set_time_base(copy, stream.time_base)
    copy.metadata.update(stream_tags(stream))
    if container.format.name == "mov" and stream.language in MOV_LANGUAGES:
        copy.metadata["language"] = MOV_LANGUAGES[stream.language]
    copy.disposition = stream.disposition.value
    if container.format.name == "mp4" and stream.type == "audio" and stream.layout.name.endswith(" channels"):
        copy.codec_context.layout = f"{stream.layout.nb_channels}c"  # FFmpeg's usual order of so many
    return copy


def _add_without_block_size(container: Any, stream: Any, data: bytes) -> Any:
    """Add a copy of a sound stream as it is in a NUT file, which has no size of a block (`nBlockAlign`).

    FFmpeg's muxer for AVI takes a block for a packet's size, and readers would compute wrong times from it. From `data`, the
    first packet, FFmpeg learns how long a packet lasts."""
    file = io.BytesIO()
    with import_av().open(file, "w", format="nut") as nut:
        nut.mux(first_packet(nut.add_stream_from_template(stream, opaque=True), data))
    with import_av().open(io.BytesIO(file.getvalue())) as nut:
        copy = container.add_stream_from_template(nut.streams[0], opaque=True)
    copy.codec_context.bit_rate = stream.codec_context.bit_rate or 0
    return copy


def stream_tags(stream: Any) -> dict[str, str]:
    """Return a stream's metadata for writing. FFmpeg reads a track's title in MP4 as `name`, but writes only `title`."""
    tags = dict(stream.metadata)
    if "name" in tags and "title" not in tags:
        tags["title"] = tags.pop("name")
    return tags


def set_time_base(stream: Any, time_base: Fraction) -> None:
    """Set a stream's clock. PyAV 14 cannot for a copied stream, so the container chooses it."""
    with contextlib.suppress(RuntimeError):
        stream.time_base = time_base


def is_generated(stream: StreamInfo) -> bool:
    """Whether the container generates the stream itself: QuickTime's timecode from metadata, and titles of chapters."""
    return stream.kind == "data" and stream.codec in GENERATED_CODECS


def ts_can_name(stream: StreamInfo) -> bool:
    """Whether an MPEG transport stream can identify the stream's codec."""
    return stream.codec in TS_CODECS


def holds_cover(format_: str, cover: StreamInfo) -> bool:
    """Whether a container can hold a cover image. FFmpeg would write a second video stream into the others."""
    if format_ == "matroska":
        return cover.codec in COVER_TYPES and hasattr(import_av().container.OutputContainer, "add_attachment")
    return format_ == "mp4" and cover.codec in MP4_COVERS


def read_packet(path: Path, index: int) -> bytes:
    """Return the first packet of a stream, which for a cover is the image. Empty if there is none."""
    with open_input(path) as source:
        return next((bytes(packet) for packet in source.demux(source.streams[index]) if packet.size), b"")


def attach_cover(container: Any, stream: Any, data: bytes) -> None:
    """Add a cover image to a Matroska container as an attachment (RFC 9559, 21.1)."""
    codec = stream.codec_context.name
    name = stream.metadata.get("filename") or f"cover.{'jpg' if codec == 'mjpeg' else codec}"
    container.add_attachment(name, stream.metadata.get("mimetype") or COVER_TYPES[codec], data)


def first_packet(stream: Any, data: bytes) -> Any:
    """Return a packet at 0 s, such as that of a cover image for an MP4 container."""
    packet = import_av().Packet(data)
    packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 1000), 0, 0
    packet.is_keyframe = True
    return packet

"""Writes the sample aspect ratio into a finished Matroska file, because PyAV does not set the field that FFmpeg uses.

Elements follow RFC 8794 (EBML) and RFC 9559 (Matroska). The length of the track's entry does not change: TrackUID, which
FFmpeg stores in eight bytes, is stored in one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

log = logging.getLogger(__name__)

SEGMENT, TRACKS, TRACK_ENTRY, CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675
TRACK_UID, VIDEO, PIXEL_WIDTH, VOID = 0x73C5, 0xE0, 0xB0, 0xEC
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
MUXER_OPTIONS = {"fflags": "+bitexact", "write_crc32": "0"}
"""Options of FFmpeg's muxer: TrackUIDs count from 1, and the entries have no checksum."""
HEADER_BYTES = 1 << 20  # bytes that contain the tracks' entries
UNKNOWN_SIZE = -1


@dataclass(frozen=True)
class Element:
    """One element, with the offsets of its start, of its content and of its end in the buffer."""

    id: int
    start: int
    data_start: int
    end: int


def set_sample_aspect_ratio(path: Path, aspect: Fraction) -> None:
    """Set the sample aspect ratio of the first video track in a finished Matroska file."""
    with open(path, "rb+") as file:
        head = file.read(HEADER_BYTES)
        entry = _video_track_entry(head)
        new = None if entry is None else _with_display_width(head[entry.data_start : entry.end], aspect)
        if entry is None or new is None:
            log.warning("%s: the sample aspect ratio %s could not be written. Players show square pixels.", path, aspect)
            return
        file.seek(entry.data_start)
        file.write(new)


def _video_track_entry(head: bytes) -> Element | None:
    segment = next((one for one in _iter_elements(head, 0, len(head)) if one.id == SEGMENT), None)
    if segment is None:
        return None
    for one in _iter_elements(head, segment.data_start, len(head)):
        if one.id == CLUSTER:
            return None
        if one.id == TRACKS:
            entries = [entry for entry in _iter_elements(head, one.data_start, one.end) if entry.id == TRACK_ENTRY]
            return next((entry for entry in entries if any(c.id == VIDEO for c in _iter_children(head, entry))), None)
    return None


def _iter_children(data: bytes, element: Element) -> Iterator[Element]:
    return _iter_elements(data, element.data_start, element.end)


def _with_display_width(entry: bytes, aspect: Fraction) -> bytes | None:
    """Return a track entry's content with the new width in the same length, or None if there is no room."""
    parts = []
    for one in _iter_elements(entry, 0, len(entry)):
        content = entry[one.data_start : one.end]
        if one.id == TRACK_UID and int.from_bytes(content, "big") < 256:
            parts.append(_encode_element(TRACK_UID, content[-1:]))
        elif one.id == VIDEO:
            parts.append(_encode_element(VIDEO, _set_display_width(content, aspect)))
        elif one.id != VOID:
            parts.append(entry[one.start : one.end])
    new = b"".join(parts)
    room = len(entry) - len(new)
    if room == 0:
        return new
    return new + bytes([VOID]) + _encode_size(room - 2, 1) + bytes(room - 2) if 2 <= room < 128 else None


def _set_display_width(video: bytes, aspect: Fraction) -> bytes:
    """Return a video element's content with a display width. The display height defaults to the height in pixels."""
    parts, display_width = [], 0
    for one in _iter_elements(video, 0, len(video)):
        if one.id == PIXEL_WIDTH:
            display_width = round(int.from_bytes(video[one.data_start : one.end], "big") * aspect)
        if one.id not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT):
            parts.append(video[one.start : one.end])
    return b"".join((*parts, _encode_element(DISPLAY_WIDTH, display_width.to_bytes(2, "big"))))


def _iter_elements(data: bytes, offset: int, end: int) -> Iterator[Element]:
    while offset < end - 1:
        id_, begin = _read_vint(data, offset, keep_marker=True)
        size, begin = _read_vint(data, begin, keep_marker=False)
        last = end if size == UNKNOWN_SIZE else begin + size
        yield Element(id_, offset, begin, last)
        offset = last


def _read_vint(data: bytes, offset: int, keep_marker: bool) -> tuple[int, int]:
    """Read a number of variable length, and return it with the offset of its end. All ones mean an unknown size."""
    length = 9 - data[offset].bit_length()
    value = int.from_bytes(data[offset : offset + length], "big")
    if not keep_marker:
        value -= 1 << 7 * length
        value = UNKNOWN_SIZE if value == (1 << 7 * length) - 1 else value
    return value, offset + length


def _encode_size(size: int, length: int) -> bytes:
    return (size + (1 << 7 * length)).to_bytes(length, "big")


def _encode_element(id_: int, content: bytes) -> bytes:
    head = id_.to_bytes((id_.bit_length() + 7) // 8, "big")
    return head + _encode_size(len(content), 1 if len(content) < 127 else 2) + content

"""Converts subtitles of MP4 (`mov_text`, 3GPP TS 26.245) to SRT for Matroska, which cannot hold `mov_text`."""

from __future__ import annotations

import io
import struct
from typing import Any

from .containers import import_av
from .stream_copy import stream_tags

TAGS = ((1, "b"), (2, "i"), (4, "u"))
"""Bits of a style's face flags, and SRT's tags for them."""
EMPTY_SRT = b"1\n00:00:00,000 --> 00:00:01,000\n-\n"


def becomes_srt(codec: str, format_: str) -> bool:
    """Whether subtitles of this codec are converted to SRT for this container."""
    return codec == "mov_text" and format_ == "matroska"


def add_srt_stream(container: Any, stream: Any) -> Any:
    """Add an SRT stream to an output, with the metadata of an input's stream."""
    with import_av().open(io.BytesIO(EMPTY_SRT), format="srt") as template:
        copy = container.add_stream_from_template(template.streams[0], opaque=True)
    copy.metadata.update({key: value for key, value in stream_tags(stream).items() if key != "handler_name"})
    copy.disposition = stream.disposition.value
    return copy


def to_srt(sample: bytes) -> bytes:
    """Convert a packet of `mov_text` to the text of an SRT packet in UTF-8. Bold, italic and underline are kept.

    Empty for packets without text, such as those between two subtitles."""
    (length,) = struct.unpack(">H", sample[:2].rjust(2, b"\0"))
    raw, boxes = sample[2 : 2 + length], sample[2 + length :]
    text = raw.decode("utf-16" if raw[:2] in (b"\xfe\xff", b"\xff\xfe") else "utf-8", "replace")
    marks: list[tuple[int, int, str]] = []
    for start, end, flags in _styles(boxes):
        names = [name for bit, name in TAGS if flags & bit]
        if start < end:
            marks += [(start, 1, f"<{name}>") for name in names] + [(end, 0, f"</{name}>") for name in reversed(names)]
    ordered = sorted(enumerate(marks), key=lambda pair: (*pair[1][:2], pair[0]), reverse=True)
    for _, (place, _, tag) in ordered:
        text = text[:place] + tag + text[place:]
    return text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").encode()


def _styles(boxes: bytes) -> list[tuple[int, int, int]]:
    """Return the first character, the one after the last, and the face flags of each `styl` record."""
    found = []
    while len(boxes) >= 10:
        size, kind = struct.unpack(">I4s", boxes[:8])
        if size < 8:
            break
        if kind == b"styl":
            (count,) = struct.unpack(">H", boxes[8:10])
            records = boxes[10 : min(size, 10 + 12 * count)]
            found += [
                (start, end, flags)
                for start, end, _, flags, _, _ in struct.iter_unpack(">HHHBBI", records[: len(records) // 12 * 12])
            ]
        boxes = boxes[size:]
    return found

"""Streams that go from one file into another packet by packet, as they are."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import Any

from .probe import StreamInfo

GENERATED_CODECS = ("tmcd", "bin_data")


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

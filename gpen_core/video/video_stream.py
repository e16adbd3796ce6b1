"""Chooses which of a file's video streams is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..images.bmff import AVIF_BRANDS, HEIF_BRANDS
from .containers import import_av, not_a_video_message


def select_stream(path: Path, container: Any) -> Any:
    """Return the first video stream that is not a cover or a still image.

    Raises `InputError` if there is none, or if its alpha is in a place where FFmpeg does not read it."""
    streams = [one for one in container.streams.video if not is_cover(one)]
    if not streams:
        kinds = ", ".join(dict.fromkeys(map(stream_kind, container.streams))) or "nothing"
        raise InputError(f"{path} has no video stream, only {kinds}. Name a video.")
    if container.metadata.get("major_brand", "").encode() in AVIF_BRANDS | HEIF_BRANDS:
        streams = _animated_streams(path, streams)
    if streams[0].codec_context is None:
        raise InputError(f"{path}: PyAV has no decoder for its video stream. Convert the video to H.264 first.")
    if streams[0].metadata.get("alpha_mode") == "1":  # VP8 and VP9 in WebM
        raise _hidden_alpha_error(path, "WebM's alpha_mode")
    return streams[0]


def is_cover(stream: Any) -> bool:
    """Whether a video stream is a cover image."""
    return isinstance(stream, import_av().VideoStream) and bool(stream.disposition.value & 0x400)  # ATTACHED_PIC


def stream_kind(stream: Any) -> str:
    """Return video, audio, subtitle, data, attachment or unknown."""
    is_unknown = type(stream) is import_av().stream.Stream  # PyAV 14 crashes if it is asked for the type
    return "unknown" if is_unknown else stream.type or "data"


def _animated_streams(path: Path, streams: list[Any]) -> list[Any]:
    """Return the streams of an AVIF or HEIC file that are not one image."""
    animated = [one for one in streams if one.frames > 1]
    if not animated:
        raise InputError(not_a_video_message(path, "an image"))
    if len(animated) > 1:  # the second is the first one's alpha
        raise _hidden_alpha_error(path, "a stream of its own")
    return animated


def _hidden_alpha_error(path: Path, place: str) -> InputError:
    return InputError(
        f"{path} has an alpha channel that cannot be read ({place}) and would be lost. Convert the video to ProRes 4444 or "
        "ffv1 first."
    )

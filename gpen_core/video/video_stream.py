"""Chooses which of a file's video streams is restored, and its decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError
from ..images.bmff import AVIF_BRANDS, HEIF_BRANDS
from .containers import av_errors, import_av, not_a_video_message
from .limits import limit_decoder

IMAGE_BRANDS = frozenset(brand.decode() for brand in AVIF_BRANDS | HEIF_BRANDS)
ALPHA_TAG = "alpha_mode"
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the alpha of WebM, which FFmpeg's own ignore, by codec."""


def select_stream(path: Path, container: Any) -> Any:
    """Return the first video stream that is not a cover or a still image.

    Raises `InputError` if there is none, or if its alpha is in a place where FFmpeg does not read it."""
    streams = [one for one in container.streams.video if not is_cover(one)]
    if not streams:
        kinds = ", ".join(dict.fromkeys(map(stream_kind, container.streams))) or "nothing"
        raise InputError(f"{path} has no video stream, only {kinds}. Name a video.")
    if container.metadata.get("major_brand") in IMAGE_BRANDS:
        streams = _animated_streams(path, streams)
    if streams[0].codec_context is None:
        raise InputError(f"{path}: PyAV has no decoder for its video stream. Convert the video to H.264 first.")
    if has_webm_alpha(streams[0]) and open_decoder(streams[0]) is streams[0].codec_context:
        _refuse_hidden_alpha(path, "WebM's alpha_mode")
    return streams[0]


def has_webm_alpha(stream: Any) -> bool:
    """Whether a stream's packets contain alpha beside the frame, as VP8 and VP9 in WebM.

    FFmpeg 7.1 gives the tag to any codec with alpha in Matroska, and as a copied tag it is in capitals."""
    has_tag = any(key.lower() == ALPHA_TAG and value == "1" for key, value in stream.metadata.items())
    return has_tag and stream.codec_context.codec.canonical_name in ALPHA_DECODERS


def open_decoder(stream: Any) -> Any:
    """Return a decoder for the packets of a stream: its own one, unless that ignores alpha and PyAV includes another."""
    own = stream.codec_context
    if not has_webm_alpha(stream):
        return own
    try:
        decoder = import_av().CodecContext.create(ALPHA_DECODERS[own.codec.canonical_name], "r")
    except av_errors():
        return own
    decoder.extradata = own.extradata
    limit_decoder(decoder, own.width * own.height)
    return decoder


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
        _refuse_hidden_alpha(path, "a stream of its own")
    return animated


def _refuse_hidden_alpha(path: Path, place: str) -> NoReturn:
    raise InputError(
        f"{path} has an alpha channel that cannot be read ({place}) and would be lost. Convert the video to ProRes 4444 or "
        "ffv1 first."
    )

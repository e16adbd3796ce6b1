"""Checks alpha: the output keeps it if its format has alpha; otherwise every frame must be opaque."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import InputError
from .encoding import IMAGE_SEQUENCE, Encoding
from .probe import VideoInfo
from .reader import DecodedFrame


def keeps_alpha(info: VideoInfo, encoding: Encoding) -> bool:
    """Whether the output keeps the frames' alpha."""
    return encoding.encoder == IMAGE_SEQUENCE or (encoding.layout.has_alpha and info.layout.has_alpha)


def raise_if_alpha_is_lost(info: VideoInfo, encoding: Encoding) -> None:
    """Raise `InputError` if the first frame is not opaque and the output does not keep alpha."""
    if info.is_transparent and not keeps_alpha(info, encoding):
        raise InputError(_message(info, encoding, 0.0))


def check_opaque(frames: Iterator[DecodedFrame], info: VideoInfo, encoding: Encoding) -> Iterator[DecodedFrame]:
    """Yield the frames. Raises `InputError` at the first that is not opaque if the output does not keep alpha."""
    if keeps_alpha(info, encoding):
        yield from frames
        return
    for frame in frames:
        alpha = frame.alpha
        if alpha is not None and bool((alpha < frame.image.max_value).any()):
            raise InputError(_message(info, encoding, frame.seconds))
        yield frame


def _message(info: VideoInfo, encoding: Encoding, seconds: float) -> str:
    is_first_without = info.is_folder and not info.layout.has_alpha
    return (
        f"{info.path}: the frame at {seconds:.3f} s is not opaque, but {encoding.encoder} ({encoding.format}) does not keep "
        "alpha. Write a .mov with the codec prores, a .webm with vp9, a .mkv with ffv1, or a folder of frames."
        + (" A video also needs a first frame with an alpha channel, which decides for all." if is_first_without else "")
    )

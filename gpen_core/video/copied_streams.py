"""Finds which of a video's other streams a container can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InputError, summarize_problems
from .containers import OUTPUT_FORMATS, av_errors, import_av, open_input, open_null_output, supports_chapters
from .probe import StreamInfo, VideoInfo
from .stream_copy import add_stream_copy, holds_cover, is_generated, ts_can_name
from .subtitles import add_srt_stream, becomes_srt

AddVideo = Callable[[Any], Any]
"""Adds the encoded video stream to a container. Some containers accept other streams only after that."""
SUGGESTED_SUFFIXES = (".mkv", ".mov", ".mp4", ".ts", ".avi")  # .avi for the sound of WMV


def select_copied_streams(info: VideoInfo, suffix: str, add_video: AddVideo) -> tuple[tuple[int, ...], list[str]]:
    """Return the indices of the streams to copy, and notes about the others.

    Raises `InputError` for a stream that the container cannot hold, with a container that can."""
    if info.is_folder or not info.other_streams:
        return (), []
    supported = _supported_streams(info, suffix, add_video)
    covers = [one for one in info.other_streams if one.is_cover]
    others = [one for one in info.other_streams if not is_generated(one) and not one.is_cover]
    unsupported = [one for one in others if not supported[one.index]]
    dropped = [
        one for one in unsupported if one.kind not in ("video", "audio") and not _fits_any_container(info, one, add_video)
    ]
    if len(unsupported) > len(dropped):
        _raise_unsupported_streams(info, suffix, add_video, [one for one in unsupported if one not in dropped])
    version = import_av().__version__
    notes = [f"{one} was dropped: PyAV {version} cannot write it into any container." for one in dropped]
    if not supports_chapters():
        notes.append(
            f"Chapters, if any, are lost, because PyAV {version} does not support them. Update it: pip install -U av"
        )
    kept_covers = [one for one in covers if holds_cover(OUTPUT_FORMATS[suffix], one)]
    notes += [
        f"{one} is a cover image and was dropped: PyAV {version} cannot write one into a {suffix} file."
        for one in covers
        if one not in kept_covers
    ]
    notes += [f"{one} was converted to SRT." for one in others if becomes_srt(one.codec, OUTPUT_FORMATS[suffix])]
    kept = (*(one for one in others if supported[one.index]), *kept_covers)
    return tuple(sorted(one.index for one in kept)), notes


def _fits_any_container(info: VideoInfo, stream: StreamInfo, add_video: AddVideo) -> bool:
    return any(_supported_streams(info, suffix, add_video)[stream.index] for suffix in SUGGESTED_SUFFIXES)


def _raise_unsupported_streams(info: VideoInfo, suffix: str, add_video: AddVideo, unsupported: list[StreamInfo]) -> None:
    others = [one for one in info.other_streams if not is_generated(one) and not one.is_cover]
    candidates = [
        other for other in SUGGESTED_SUFFIXES if all(_supported_streams(info, other, add_video)[one.index] for one in others)
    ]
    advice = (
        f"Write a {candidates[0]} file"
        if candidates
        else "No single container can hold them all. Remove some of them from the video first"
    )
    raise InputError(
        f"A {suffix} file cannot hold {summarize_problems([str(one) for one in unsupported])} of {info.path}. {advice}."
    )


def _supported_streams(info: VideoInfo, suffix: str, add_video: AddVideo) -> dict[int, bool]:
    """Return by stream index whether a container can hold it. Each is added with the video to a container in memory."""
    supported = {}
    with open_input(info.path) as source:
        for one in info.other_streams:
            with open_null_output(suffix) as container:
                try:
                    add_video(container)
                    if becomes_srt(one.codec, container.format.name):
                        add_srt_stream(container, source.streams[one.index])
                    else:
                        add_stream_copy(container, source.streams[one.index], info.path)
                    container.start_encoding()
                    supported[one.index] = OUTPUT_FORMATS[suffix] != "mpegts" or ts_can_name(one)
                except av_errors():
                    supported[one.index] = False
    return supported

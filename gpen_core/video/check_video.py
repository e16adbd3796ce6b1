"""What is refused before any network is loaded, and once it is known who is in a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ..errors import InputError, OptionsError
from ..faces.select import missing_numbers
from ..optional_packages import version_guard
from ..options import RestoreOptions, VideoOptions
from ..pipeline.devices import pixel_memory_budget
from .alpha import raise_if_alpha_is_lost
from .encoding import Encoding, is_image_sequence, resolve_encoding
from .frame_folder import raise_if_frames_exist
from .frame_memory import prefetch_depth
from .probe import VideoInfo, interlaced_message, probe
from .temporal_filter import RADIUS
from .work_dir import WorkDir


def probe_video(source: Path, video: VideoOptions, frame_memory: int | None = None) -> VideoInfo:
    """See `probe`. `frame_memory` as in `restore_video`."""
    fps = None if video.fps is None else Fraction(video.fps).limit_denominator(1001)
    return probe(source, fps, pixel_memory_budget(frame_memory))


@version_guard("av")
def check_video(
    source: Path, target: Path, options: RestoreOptions, video: VideoOptions, frame_memory: int | None = None
) -> tuple[VideoInfo, Encoding]:
    """The video and how it will be written. What can be refused before any network is loaded is refused here, with what
    `restore_video` raises for it."""
    info = probe_video(source, video, frame_memory)
    if target.exists() and target.samefile(source):
        raise OptionsError(f"{target} is the video itself. Give another name for the output.")
    if is_image_sequence(target) and target.exists() and not target.is_dir():
        raise OptionsError(f"{target} is a file, and without a suffix a folder of images is meant. Give another name.")
    if options.upscale != 1:
        raise OptionsError("A video keeps its size: upscale is for images. Enlarge the video before or after.")
    if video.start is not None and info.duration is not None and video.start >= info.duration:
        raise InputError(f"{source} is {info.duration:.2f} s long: nothing comes after the start, {video.start:g} s.")
    if (
        is_image_sequence(target) and not WorkDir(target).has_progress
    ):  # else these may be frames that a killed run has moved
        raise_if_frames_exist(info, target, video.start, video.end)
    encoding = resolve_encoding(info, target, Encoding.from_options(video))
    raise_if_alpha_is_lost(info, encoding)
    if info.is_interlaced and video.interlaced == "refuse":
        raise InputError(interlaced_message(source))
    prefetch_depth(
        info,
        encoding,
        (),
        RADIUS if video.temporal_smoothing > 0 else 0,
        pixel_memory_budget(frame_memory),
        info.frame_count,
    )
    return info, encoding


def raise_if_faces_missing(selection: str | tuple[int, ...], count: int, source: Path) -> None:
    """Raises `OptionsError` where faces were asked for by numbers that none of a video's `count` tracks has."""
    notes = missing_numbers(selection, count)
    if notes:
        raise OptionsError(f"{source}: {notes[0]}. A report of a run with --strength 0 lists who is in the video.")

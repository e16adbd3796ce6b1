"""Checks a video and the options before any network is loaded, and the face numbers after the first pass."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ..errors import FaceNumberError, InputError, OptionsError
from ..faces.select import missing_numbers
from ..files.path_checks import AnyPath, exists, is_folder, local_path
from ..optional_packages import version_guard
from ..options import FaceSelection, RestoreOptions, VideoOptions, range_text
from ..pipeline.devices import pixel_memory_budget
from .alpha import raise_if_alpha_is_lost
from .encoding import Encoding, is_image_sequence, resolve_encoding
from .frame_folder import raise_if_frames_exist
from .frame_memory import prefetch_depth
from .probe import VideoInfo, interlaced_message, probe
from .temporal_filter import RADIUS
from .work_dir import WorkDir


def probe_video(source: AnyPath, video: VideoOptions, frame_memory: int | None = None) -> VideoInfo:
    """Call `probe` with the options' frame rate. `frame_memory` as in `restore_video`."""
    fps = None if video.fps is None else Fraction(video.fps).limit_denominator(1001)
    return probe(local_path(source), fps, pixel_memory_budget(frame_memory))


@version_guard("av")
def check_video(
    source: Path, target: Path, options: RestoreOptions, video: VideoOptions, frame_memory: int | None = None
) -> tuple[VideoInfo, Encoding]:
    """Return the video's properties and the encoding of the output.

    Raises the errors of `restore_video` that can be found before any network is loaded."""
    info = probe_video(source, video, frame_memory)
    if exists(target) and target.samefile(source):
        raise OptionsError(f"{target} is the input video. Choose another output.")
    if is_image_sequence(target) and exists(target) and not is_folder(target):
        raise OptionsError(
            f"{target} is a file, but an output without a suffix is a folder of images. Choose another output."
        )
    raise_if_image_only(options)
    raise_if_past_end(info, video)
    # If the work folder has progress, existing frames may come from a killed run.
    if is_image_sequence(target) and not WorkDir(target).has_progress:
        raise_if_frames_exist(info, target, video.start, video.end)
    encoding = resolve_encoding(info, target, video)
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


def raise_if_past_end(info: VideoInfo, video: VideoOptions) -> None:
    """Raise `InputError` if the header says that the video ends before the start or before a range."""
    if info.duration is None or info.may_be_joined:
        return
    if video.start is not None and video.start >= info.duration:
        raise InputError(
            f"{info.path} is {info.duration:.2f} s long, so there is no frame after the start at {video.start:g} s."
        )
    if video.ranges and video.ranges[-1][0] >= info.duration:
        raise InputError(
            f"{info.path} is {info.duration:.2f} s long, so there is no frame in the range {range_text(*video.ranges[-1])}."
        )


def raise_if_image_only(options: RestoreOptions) -> None:
    """Raise `OptionsError` for options that only single images have."""
    if options.upscale != 1:
        raise OptionsError("Videos cannot be upscaled here. Upscale the video before or after.")


def raise_if_faces_missing(selection: FaceSelection, count: int, info: VideoInfo, video: VideoOptions) -> None:
    """Raise `FaceNumberError` if `selection` contains face numbers that none of the `count` tracks has."""
    notes = missing_numbers(selection, count)
    if not notes:
        return
    if info.is_folder:  # `gpen detect` takes its images for photos
        raise FaceNumberError(
            f"{info.path}: {notes[0]}. To list the faces, write a report with the option faces set to all."
        )
    is_part = video.start is not None or video.end is not None or video.ranges
    same_part = ", with the same start, end and ranges" if is_part else ""
    raise FaceNumberError(f"{info.path}: {notes[0]}. To list the faces, run: gpen detect {info.path} -o DIR{same_part}")

"""`gpen video --preview`: what the options do to a video, before a long run."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GpenError, InputError, OptionsError, OutOfMemory
from ..progress import pluralize
from .exit_status import exit_status
from .model_loading import load_restorer
from .progress_display import progress_reporter
from .terminal import print_input_error, print_summary
from .video_run import RUN_ERRORS, region_mask_for

if TYPE_CHECKING:
    from ..batch.read_files import ReadFiles
    from ..batch.video_plan import VideoJob, VideoPlan
    from ..options import RestoreOptions, VideoOptions
    from ..pipeline.restorer import FaceRestorer


def preview_videos(
    args: argparse.Namespace, options: RestoreOptions, video: VideoOptions, plan: VideoPlan, read: ReadFiles
) -> int:
    """Write the preview of each video and return the exit status. The error of the only named video is raised.

    Raises `OptionsError` if a preview would overwrite one of the files `read`."""
    from ..batch.video_plan import raise_if_conflicts, raise_if_unmatched
    from ..video.check_video import check_video, probe_video
    from ..video.region_mask import open_region_mask

    is_clip = isinstance(args.preview, float)
    if not is_clip and args.preview < 1:
        raise OptionsError(f"--preview is {args.preview}; expected a number of frames such as 8, or seconds such as 10s.")
    jobs = [replace(job, target=_clip_target(job, video) if is_clip else _sheet_target(job.target)) for job in plan.jobs]
    raise_if_conflicts(jobs, read)
    errors: Counter[type[BaseException]] = Counter()
    readable = []
    for job in jobs:
        try:
            raise_if_unmatched(job)
            info = probe_video(job.source, video, args.max_memory)  # before anything is downloaded or loaded
            if is_clip:
                check_video(job.source, job.target, options, video, args.max_memory)
            open_region_mask(region_mask_for(job, args.region_mask, plan), info, video)
            readable.append(job)
        except (InputError, OutOfMemory) as error:
            _report_error(error, job, plan, errors)
    if readable:
        restorer = load_restorer(args, options)
    for job in readable:
        try:
            write = _write_clip if is_clip else _write_sheet
            write(args, restorer, options, video, job, region_mask_for(job, args.region_mask, plan))
        except RUN_ERRORS:
            raise
        except GpenError as error:
            _report_error(error, job, plan, errors)
    return exit_status(errors, len(jobs))


def _report_error(error: GpenError, job: VideoJob, plan: VideoPlan, errors: Counter[type[BaseException]]) -> None:
    if plan.is_single:
        raise error
    errors[type(error)] += 1
    print_input_error(job.source, error)


def _clip_target(job: VideoJob, video: VideoOptions) -> Path:
    """Return OUT.preview.mp4, so that no result of a whole run is replaced."""
    from ..batch.video_plan import writable_suffix
    from ..video.containers import OUTPUT_FORMATS

    suffix = job.target.suffix if job.target.suffix.lower() in OUTPUT_FORMATS else writable_suffix(job.source, video)
    stem = job.target.stem.removesuffix(".preview") or "clip"
    return job.target.with_name(f"{stem}.preview{suffix}")


def _sheet_target(target: Path) -> Path:
    from ..images import formats

    return target if target.suffix.lower() in formats.OUTPUT_SUFFIXES else target.with_suffix(".preview.jpg")


def _write_clip(
    args: argparse.Namespace,
    restorer: FaceRestorer,
    options: RestoreOptions,
    video: VideoOptions,
    job: VideoJob,
    region_mask: Path | None,
) -> None:
    from ..video.preview_clip import preview_clip

    with progress_reporter(args) as progress:
        count = preview_clip(
            job.source,
            job.target,
            args.preview,
            restorer,
            options,
            video,
            region_mask=region_mask,
            progress=progress,
            max_memory=args.max_memory,
            frame_memory=args.max_memory,
            on_note=lambda note: progress.note(f"{job.source}: {note}"),
        )
    print_summary(args, f"{job.target}: {pluralize(count, 'frame')}, original and restored side by side")


def _write_sheet(
    args: argparse.Namespace,
    restorer: FaceRestorer,
    options: RestoreOptions,
    video: VideoOptions,
    job: VideoJob,
    region_mask: Path | None,
) -> None:
    from ..files.atomic_write import write_bytes
    from ..images import codecs, formats
    from ..video.preview import preview

    with progress_reporter(args) as progress:
        sheet = preview(
            job.source,
            args.preview,
            restorer,
            options,
            video,
            region_mask=region_mask,
            progress=progress,
            max_memory=args.max_memory,
        )
    format_name = formats.output_format(job.target, "JPEG")
    write_bytes(job.target, codecs.encode_array(sheet, format_name))
    print_summary(args, f"{job.target}: {pluralize(args.preview, 'frame')} before and after")

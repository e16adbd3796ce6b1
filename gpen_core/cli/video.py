"""`gpen video`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..batch.locations import OutputPlace
from ..errors import OptionsError
from ..options import VIDEO_FORMATS, RestoreOptions, VideoOptions
from .arguments import (
    add_device_arguments,
    add_input_list,
    add_option_arguments,
    add_ray_arguments,
    add_run_arguments,
    add_suffix_argument,
    options_from_args,
    parse_local_path,
    parse_seconds,
)
from .model_loading import check_workers
from .read_files import read_files

DESCRIPTION = """Tracks the faces in a video and restores them without flicker. Keeps the sound. Needs PyAV (pip install av).

  gpen video clip.mp4 -o restored.mp4
  gpen video clip.mp4 -o restored.mp4 --preview 10s
  gpen video films/ -o restored/ --recursive"""
FACES_HELP = (
    "Faces to restore: all, largest, center (one in each shot), numbers of people starting at 0 (listed by gpen detect), or "
    "people: like:PHOTO, not:PHOTO. PHOTO is a photo of one person, or a folder of photos of one person. May be given "
    "several times."
)


def add_command(commands: Any, shared: argparse.ArgumentParser, epilog: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "video",
        parents=[shared],
        help="restore the faces in a video (needs PyAV)",
        usage="gpen video INPUT... -o OUT [options]",
        description=DESCRIPTION,
        epilog=epilog,
    )
    inputs = parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        default=[],
        help="videos, folders of images (frames), folders of videos, patterns",
    )
    _add_output_arguments(parser.add_argument_group("input and output"), inputs)
    add_device_arguments(parser)
    add_option_arguments(
        parser,
        RestoreOptions,
        "selection",
        "detection",
        "look",
        without=("order",),
        helps={"faces": FACES_HELP},
    )
    types = {"start": parse_seconds, "end": parse_seconds, "bitrate": _parse_bitrate}
    add_option_arguments(parser, VideoOptions, "video", types=types)
    add = parser.add_argument_group("files that guide the restoration").add_argument
    add(
        "--region-mask",
        type=parse_local_path,
        metavar="MASKFILE",
        help="restore only where this is white: a mask image for all frames, or a video or a folder of images with a mask "
        "for each frame. For several videos, a folder with a mask named like each",
    )
    add(
        "--tracks",
        type=parse_local_path,
        metavar="DIR",
        help="folder that gpen detect wrote for this video: use its faces instead of detecting them again",
    )
    add_run_arguments(parser)
    add_ray_arguments(parser)
    parser.set_defaults(command=_video)


def _add_output_arguments(group: argparse._ArgumentGroup, inputs: argparse.Action) -> None:
    add = group.add_argument
    add_input_list(group, inputs)
    add("--recursive", action="store_true", help="search subfolders for videos, mirroring them below OUT")
    add(
        "-o",
        "--output",
        type=_parse_output,
        metavar="OUT",
        required=True,
        help="video, or folder of images if the name has no suffix. For several videos, folder of the results (for one, end "
        "it with /). Replaces existing videos, but never inputs",
    )
    add(
        "--preview",
        type=_parse_preview,
        metavar="N|SECONDS",
        help="instead of the video, write a preview next to it. 8: image of 8 frames before and after. 10s: video of 10 "
        "seconds with the original on the left, from --start or from the middle",
    )
    add("--skip-existing", action="store_true", help="skip videos whose output already exists, to resume a run")
    add("--restart", action="store_true", help="start over instead of resuming an earlier run")
    add(
        "--format",
        choices=VIDEO_FORMATS,
        help="format of results in a folder (default: the input's, or one that can be written); png: a folder of images",
    )
    add_suffix_argument(group)


def _parse_output(text: str) -> OutputPlace:
    """Parse the output. `.` and `..` get their real names, because other files are written next to the output."""
    path = parse_local_path(text)
    path = path if path.name not in ("", "..") else path.resolve()
    return OutputPlace(path, text.endswith(("/", os.sep)))


def _parse_preview(text: str) -> int | float:
    """Parse a number of frames (int), or seconds (float) such as 10s."""
    try:
        if text.endswith("s"):
            seconds = float(text[:-1])
            if 0 < seconds < float("inf"):
                return seconds
        else:
            return int(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number of frames such as 8, or seconds such as 10s, got {text!r}")


def _parse_bitrate(text: str) -> int:
    factor = {"K": 1e3, "M": 1e6}.get(text[-1:].upper(), 1)
    try:
        return round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"expected bits per second such as 8M, got {text!r}") from None


def _video(args: argparse.Namespace) -> int:
    from ..batch.input_kinds import VIDEOS
    from ..batch.sources import Sources
    from ..batch.video_plan import VideoOutputSpec, plan_videos, raise_if_conflicts
    from ..pipeline.operations import require_restoration
    from ..weights.catalog import find_operation
    from .video_preview import preview_videos
    from .video_run import region_masks_of, run_videos

    options = options_from_args(args)
    video = VideoOptions.from_mapping(vars(args))
    check_workers(args)
    require_restoration(find_operation(args.model), "videos")
    if args.preview is not None:
        _raise_if_unused_by_preview(args)
    out = args.output.location
    sources = Sources(tuple(args.inputs), args.input_list, args.recursive, out, kind=VIDEOS)
    plan = plan_videos(sources, VideoOutputSpec(out, args.output.is_folder, args.format, args.suffix), video)
    masks = (mask for job in plan.jobs for mask in region_masks_of(job, args.region_mask, plan))
    read = read_files(args, options, *(job.source for job in plan.jobs), *masks)
    if args.preview is not None:
        return preview_videos(args, options, video, plan, read)
    raise_if_conflicts(plan.jobs, read)
    if args.report is not None:
        plan.check_report(args.report, read)
    return run_videos(args, options, video, plan)


def _raise_if_unused_by_preview(args: argparse.Namespace) -> None:
    for name in ("ray", "tracks", "report", "skip_existing", "restart"):
        if getattr(args, name) not in (None, False):
            raise OptionsError(f"--preview does not use --{name.replace('_', '-')}. Remove one of them.")

"""`gpen video`."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Interrupted, OptionsError, OutOfMemory, OutputError
from ..options import RestoreOptions, VideoOptions
from ..progress import pluralize
from .arguments import (
    add_device_arguments,
    add_option_arguments,
    add_ray_arguments,
    add_run_arguments,
    options_from_args,
)
from .progress_display import progress_reporter
from .report_text import seconds_text, skip_lines
from .restore import check_workers, cluster_from_args, load_local, load_restorer, restorer_loader
from .terminal import print_summary

if TYPE_CHECKING:
    from ..images.image import FloatImage
    from ..pipeline.report import ModelInfo, RuntimeInfo
    from ..pipeline.restorer import FaceRestorer
    from ..video.segments import SegmentExecutor
    from ..video.video_result import VideoResult

log = logging.getLogger(__name__)

DESCRIPTION = """Tracks the faces in a video and restores them without flicker. Keeps the sound. Needs PyAV (pip install av).

  gpen video clip.mp4 -o restored.mp4
  gpen video clip.mp4 -o sheet.jpg --preview 4"""
FACES_HELP = (
    "Which faces of each shot are restored: all, largest, center, or numbers in order of appearance, from 0 (see --report)."
)


def add_command(commands: Any, shared: argparse.ArgumentParser, epilog: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "video",
        parents=[shared],
        help="restore the faces in a video (needs PyAV)",
        usage="gpen video IN -o OUT [options]",
        description=DESCRIPTION,
        epilog=epilog,
    )
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="video, or folder of images")
    add(
        "-o",
        "--output",
        type=_parse_output_path,
        metavar="OUT",
        required=True,
        help="video, or folder of images if the name has no suffix",
    )
    add_device_arguments(parser)
    add_option_arguments(
        parser, RestoreOptions, "selection", "detection", "look", without=("order",), helps={"faces": FACES_HELP}
    )
    types = {"start": _parse_seconds, "end": _parse_seconds, "bitrate": _parse_bitrate}
    add_option_arguments(parser, VideoOptions, "video", types=types)
    add("--region-mask", type=Path, metavar="MASKFILE", help="mask image for all frames: restore only where it is white")
    add("--preview", type=int, metavar="N", help="write a sheet of N frames before and after instead of the video")
    add("--restart", action="store_true", help="start over instead of resuming an earlier run")
    add_run_arguments(parser)
    add_ray_arguments(parser)
    parser.set_defaults(command=_video)


def _parse_output_path(text: str) -> Path:
    """Resolve `.` and `..` to real names, because other files are written next to the output."""
    path = Path(text)
    return path if path.name not in ("", "..") else path.resolve()


def _parse_seconds(text: str) -> float:
    parts: list[float] = []
    try:
        parts = [float(part) for part in text.split(":")]
        if not 1 <= len(parts) <= 3 or min(parts) < 0 or any(part >= 60 for part in parts[1:]):
            raise ValueError(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds such as 83.5 or 1:23.5, got {text!r}") from None
    return sum(part * 60.0**n for n, part in enumerate(reversed(parts)))


def _parse_bitrate(text: str) -> int:
    factor = {"K": 1e3, "M": 1e6}.get(text[-1:].upper(), 1)
    try:
        return round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"expected bits per second such as 8M, got {text!r}") from None


def _video(args: argparse.Namespace) -> int:
    from ..video import video_report as report
    from ..video.check_video import check_video

    options = options_from_args(args)
    video = VideoOptions.from_mapping(vars(args))
    check_workers(args)
    if args.preview is not None:
        if args.ray is not None:
            raise OptionsError("--preview does not use --ray. Remove one of them.")
        _preview(args, options, video)
        return 0
    _check_report(args)
    model_info: ModelInfo | None = None
    result: VideoResult | None = None
    failure: str | None = None
    names = {"model": args.model, "detector": args.detector, "input": str(args.input), "output": str(args.output)}
    try:
        check_video(args.input, args.output, options, video, args.max_memory)  # before anything is downloaded or loaded
        region_mask = _region_mask(args.region_mask)
        if args.ray is None:
            model_info = restorer = load_restorer(args, options)
            result = _restore(args, restorer, options, video, region_mask)
        else:

            def on_started(machine: RuntimeInfo) -> None:
                nonlocal model_info
                model_info = machine

            result = _restore_on_ray(args, options, video, region_mask, on_started)
    except BaseException as error:
        failure = str(error) or type(error).__name__
        raise
    finally:
        if args.report is not None:
            from ..files.atomic_write import write_bytes

            write_bytes(args.report, report.report(model_info, names, options, video, result, failure).encode())
    return 0


def _check_report(args: argparse.Namespace) -> None:
    """Raise `OptionsError` if the report would overwrite a video or is a folder."""
    from ..batch.file_keys import same_file_key

    report: Path | None = args.report
    if report is None:
        return
    if report.is_dir():
        raise OptionsError(f"The report {report} is a folder. Choose a file, such as {report / 'report.json'}.")
    if same_file_key(report) in (same_file_key(args.input), same_file_key(args.output)):
        raise OptionsError(f"The report {report} would overwrite the video. Choose another file.")


def _restore_on_ray(
    args: argparse.Namespace,
    options: RestoreOptions,
    video: VideoOptions,
    region_mask: FloatImage | None,
    on_started: Callable[[RuntimeInfo], None],
) -> VideoResult:
    """Restore on Ray. The first pass runs locally, on the GPU if there is one."""
    cluster = cluster_from_args(args)
    from ..batch import ray_video

    restorer = load_local(args, options, "cpu" if args.device == "cpu" else "auto")
    video_args = args.input, args.output, options, video, region_mask, args.max_memory
    spec = ray_video.VideoWorkerSpec(restorer_loader(args, options), *video_args)
    return _restore(args, restorer, options, video, region_mask, ray_video.segment_executor(spec, cluster, on_started))


def _restore(
    args: argparse.Namespace,
    restorer: FaceRestorer,
    options: RestoreOptions,
    video: VideoOptions,
    region_mask: FloatImage | None,
    segment_executor: SegmentExecutor | None = None,
) -> VideoResult:
    from ..video.restore_video import restore_video
    from ..video.work_dir import OutputLocked, WorkDir

    start = time.monotonic()

    with progress_reporter(args) as reporter:
        try:
            result = restore_video(
                args.input,
                args.output,
                restorer,
                options,
                video,
                region_mask=region_mask,
                progress=reporter,
                max_memory=args.max_memory,
                frame_memory=args.max_memory,
                restart=args.restart,
                executor=segment_executor,
            )
        except (KeyboardInterrupt, Interrupted, OutOfMemory, OutputError) as error:
            work_dir = WorkDir(args.output)
            if work_dir.has_progress and not isinstance(error, OutputLocked):
                reporter.note(f"Finished parts are kept in {work_dir.folder}. Run the same command to resume.")
            raise
        for note in result.notes:
            reporter.note(f"{args.input}: {note}")
    print_summary(args, f"{args.output}: {result.summary} ({seconds_text(time.monotonic() - start)})")
    for line in _why_skipped(result, restorer, options):
        print_summary(args, f"  {line}")
    return result


def _why_skipped(result: VideoResult, restorer: FaceRestorer, options: RestoreOptions) -> Iterator[str]:
    """Yield the reasons why faces were skipped or, if none was found, the detectable sizes and advice."""
    from ..faces.detection.pyramid import pyramid_detectable_sizes
    from ..pipeline.no_face import no_face_advice

    if not result.tracks:
        size, scale_range = result.analysis.size, restorer.detector.scale_range
        yield no_face_advice(*pyramid_detectable_sizes(size, options.detection_size, scale_range))
    skipped = {one.track.number: one.reason or "the options allow no frame of it" for one in result.tracks if not one.frames}
    yield from skip_lines(skipped)


def _preview(args: argparse.Namespace, options: RestoreOptions, video: VideoOptions) -> None:
    from ..files.atomic_write import write_bytes
    from ..images import codecs, formats
    from ..images.image import from_array
    from ..images.metadata import Metadata
    from ..video.check_video import probe_video
    from ..video.preview import preview

    if args.preview < 1:
        raise OptionsError(f"--preview is {args.preview}; expected a number of frames, such as 8.")
    probe_video(args.input, video, args.max_memory)  # before anything is downloaded or loaded
    region_mask = _region_mask(args.region_mask)
    restorer = load_restorer(args, options)
    is_picture = args.output.suffix.lower() in formats.OUTPUT_SUFFIXES
    target = args.output if is_picture else args.output.with_suffix(".preview.jpg")
    with progress_reporter(args) as progress:
        sheet = preview(
            args.input,
            args.preview,
            restorer,
            options,
            video,
            region_mask=region_mask,
            progress=progress,
            max_memory=args.max_memory,
        )
    format_name = formats.output_format(target, "JPEG")
    write_bytes(
        target, codecs.encode(codecs.EncodedImage(from_array(sheet), Metadata(), format_name, lossy=True), format_name)
    )
    print_summary(args, f"{target}: {pluralize(args.preview, 'frame')} before and after")


def _region_mask(path: Path | None) -> FloatImage | None:
    """Read a mask image as its luminance, [H, W] in [0, 1]."""
    from ..images import codecs
    from ..images.image import to_luminance

    return None if path is None else to_luminance(codecs.read(path).image)

"""`gpen video`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Interrupted, OptionsError, OutOfMemory, OutputError
from ..options import MASK_TYPES, RestoreOptions, VideoOptions
from ..progress import pluralize
from .arguments import (
    DEFAULTS,
    detection_arguments,
    look_arguments,
    model_argument,
    models_argument,
    options_of,
    ray_arguments,
    run_arguments,
    selection_arguments,
)
from .progress_display import progress_reporter
from .restore import check_workers, cluster_of, loaded, loaded_here, loader
from .terminal import printable

if TYPE_CHECKING:
    from ..images.image import FloatImage
    from ..pipeline.report import Engine, Machine
    from ..pipeline.restorer import FaceRestorer
    from ..video.restore_video import VideoResult
    from ..video.segments import Elsewhere

log = logging.getLogger(__name__)

DEFAULT = VideoOptions()
NUMBERS = "of each shot; numbers count from 0 by first appearance, see --report"


def add_command(commands: Any, shared: argparse.ArgumentParser, epilog: str) -> None:
    """Adds the command to the parser's."""
    text = "restore the faces of a film, steadily, with its sound (needs PyAV)"
    parser = commands.add_parser("video", parents=[shared], help=text, description=f"{text}.", epilog=epilog)
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="a film, or a folder of pictures")
    add("-o", "--output", type=_named, metavar="OUT", required=True, help="a film; with no suffix a folder of pictures")
    models_argument(parser)
    model_argument(parser)
    detection_arguments(parser)
    selection_arguments(parser, NUMBERS)
    add(
        "--min-duration",
        type=float,
        default=DEFAULT.min_duration,
        metavar="S",
        help="leave who is in the film for less seconds",
    )
    add("--strength", type=float, default=DEFAULTS.strength, metavar="0..1")
    add(
        "--temporal-smoothing",
        type=float,
        default=DEFAULT.temporal_smoothing,
        metavar="0..1",
        help="how much faces are evened out over time",
    )
    add("--mask-type", default=DEFAULTS.mask_type, choices=MASK_TYPES)
    look_arguments(parser)
    add("--region-mask", type=Path, metavar="MASKFILE", help="restore only where this picture is white, in every frame")
    add("--start", type=_seconds, metavar="T", help="seconds or H:M:S from the first frame")
    add("--end", type=_seconds, metavar="T", help="seconds or H:M:S from the first frame")
    add("--fps", type=float, metavar="F", help="frames a second of a folder of pictures (25)")
    add(
        "--codec",
        default=DEFAULT.codec,
        metavar="C",
        help="auto (h264; hevc for more than 8 bits), av1, ffv1, h264_nvenc ...",
    )
    add("--crf", type=int, metavar="N", help="the encoder's quality: less is better and larger")
    add("--preview", type=int, metavar="N", help="write no film and no report, but a sheet of N frames before and after")
    add("--restart", action="store_true", help="do not go on where an earlier run ended")
    run_arguments(parser)
    ray_arguments(parser)
    parser.set_defaults(command=_video)


def _named(text: str) -> Path:
    """`.` and `..` by the names that they stand for: there are files beside the output."""
    path = Path(text)
    return path if path.name not in ("", "..") else path.resolve()


def _seconds(text: str) -> float:
    parts: list[float] = []
    try:
        parts = [float(part) for part in text.split(":")]
        if not 1 <= len(parts) <= 3 or min(parts) < 0 or any(part >= 60 for part in parts[1:]):
            raise ValueError(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds such as 83.5, or 1:23.5, got {text!r}") from None
    return sum(part * 60.0**n for n, part in enumerate(reversed(parts)))


def _video(given: argparse.Namespace) -> int:
    from ..video import video_report as report
    from ..video.restore_video import check

    options = options_of(given)
    video = VideoOptions(**{name: getattr(given, name) for name in VideoOptions.__dataclass_fields__})
    check_workers(given)
    if given.preview is not None:
        if given.ray is not None:
            raise OptionsError("--preview is made here, of a few frames: leave out --ray.")
        _preview(given, options, video)
        return 0
    _check_report(given)
    engine: Engine | None = None
    result: VideoResult | None = None
    failure: str | None = None
    names = {"model": given.model, "detector": given.detector, "input": str(given.input), "output": str(given.output)}
    try:
        check(given.input, given.output, options, video, given.max_memory)  # before anything is fetched or loaded
        region_mask = _region_mask(given.region_mask)
        if given.ray is None:
            engine = restorer = loaded(given, options)
            result = _restore(given, restorer, options, video, region_mask)
        else:

            def begun(machine: Machine) -> None:
                nonlocal engine
                engine = machine

            result = _restore_on_ray(given, options, video, region_mask, begun)
    except BaseException as error:
        failure = str(error) or type(error).__name__
        raise
    finally:
        if given.report is not None:
            from ..files.atomic_write import write_bytes

            write_bytes(given.report, report.report(engine, names, options, video, result, failure).encode())
    return 0


def _check_report(given: argparse.Namespace) -> None:
    """Raises `OptionsError` where it would overwrite a film or cannot be a file."""
    from ..batch.file_keys import same_file_key

    report: Path | None = given.report
    if report is None:
        return
    if report.is_dir():
        raise OptionsError(f"The report {report} is a folder. Name a file, such as {report / 'report.json'}.")
    if same_file_key(report) in (same_file_key(given.input), same_file_key(given.output)):
        raise OptionsError(f"The report {report} would overwrite the film. Name a file of its own.")


def _restore_on_ray(
    given: argparse.Namespace,
    options: RestoreOptions,
    video: VideoOptions,
    region_mask: FloatImage | None,
    begun: Callable[[Machine], None],
) -> VideoResult:
    """The first pass here, on a GPU where there is one."""
    which = cluster_of(given)
    from ..batch import ray_video

    restorer = loaded_here(given, options, "cpu" if given.device == "cpu" else "auto")
    film = given.input, given.output, options, video, region_mask, given.max_memory
    work = ray_video.Work(loader(given, options), *film)
    return _restore(given, restorer, options, video, region_mask, ray_video.elsewhere(work, which, begun))


def _restore(
    given: argparse.Namespace,
    restorer: FaceRestorer,
    options: RestoreOptions,
    video: VideoOptions,
    region_mask: FloatImage | None,
    elsewhere: Elsewhere | None = None,
) -> VideoResult:
    from ..video.restore_video import restore_video
    from ..video.work_dir import InUse, Work

    with progress_reporter(given) as show:
        try:
            result = restore_video(
                given.input,
                given.output,
                restorer,
                options,
                video,
                region_mask=region_mask,
                progress=show,
                max_memory=given.max_memory,
                frame_memory=given.max_memory,
                restart=given.restart,
                elsewhere=elsewhere,
            )
        except (KeyboardInterrupt, Interrupted, OutOfMemory, OutputError) as error:
            work = Work(given.output)
            if work.is_begun and not isinstance(error, InUse):
                show.note(f"What is finished waits in {work.folder}: the same command goes on from there.")
            raise
        for note in result.notes:
            show.note(f"{given.input}: {note}")
    sys.stdout.write(printable(f"{given.output}: {result.summary}\n"))
    return result


def _preview(given: argparse.Namespace, options: RestoreOptions, video: VideoOptions) -> None:
    from ..files.atomic_write import write_bytes
    from ..images import codecs
    from ..images.image import from_array
    from ..images.metadata import Metadata
    from ..video.preview import preview
    from ..video.restore_video import film_of

    if given.preview < 1:
        raise OptionsError(f"--preview is {given.preview}; expected how many frames, such as 8.")
    film_of(given.input, video, given.max_memory)  # before anything is fetched or loaded
    region_mask = _region_mask(given.region_mask)
    restorer = loaded(given, options)
    is_picture = given.output.suffix.lower() in codecs.SUFFIXES
    target = given.output if is_picture else given.output.with_suffix(".preview.jpg")
    with progress_reporter(given) as progress:
        sheet = preview(
            given.input,
            given.preview,
            restorer,
            options,
            video,
            region_mask=region_mask,
            progress=progress,
            max_memory=given.max_memory,
        )
    format_name = codecs.format_of(target, "JPEG")
    write_bytes(target, codecs.encode(codecs.Photo(from_array(sheet), Metadata(), format_name, lossy=True), format_name))
    sys.stdout.write(printable(f"{target}: {pluralize(given.preview, 'frame')} before and after\n"))


def _region_mask(path: Path | None) -> FloatImage | None:
    """[H, W] in [0, 1]: a picture's luminance."""
    from ..images import codecs
    from ..images.image import luminance

    return None if path is None else luminance(codecs.read(path).picture)

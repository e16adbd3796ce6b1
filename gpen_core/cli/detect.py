"""`gpen detect`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batch.locations import parse_location
from ..errors import InputError
from ..options import RestoreOptions
from ..progress import pluralize
from .arguments import add_device_arguments, add_models_dir_argument, add_option_arguments, options_from_args
from .exit_status import exit_status
from .progress_display import ProgressReporter, progress_reporter
from .report_text import pixels_text

if TYPE_CHECKING:
    from ..batch.job import ImageJob
    from ..batch.job_plan import JobPlan
    from ..faces.detection.retinaface import Detector
    from ..faces.face import Face
    from ..images.codecs import EncodedImage


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    detect = commands.add_parser("detect", parents=[shared], help="list the faces of images with their numbers")
    detect.add_argument("inputs", nargs="+", metavar="INPUT", help="image, folder or glob pattern")
    detect.add_argument(
        "-o", "--output", type=parse_location, metavar="DIR", help="write the images there, the faces numbered"
    )
    add_models_dir_argument(detect)
    add_device_arguments(detect)
    others = ("faces", "min_face_size", "max_faces")
    add_option_arguments(detect, RestoreOptions, "selection", "detection", without=others)
    detect.set_defaults(command=_detect)


def _detect(args: argparse.Namespace) -> int:
    from ..batch.job_plan import JobPlan, OutputSpec
    from ..batch.sources import Sources

    options = options_from_args(args)
    sources = Sources(tuple(args.inputs))
    with JobPlan(sources, OutputSpec(args.output, in_place=args.output is None)) as todo:
        if not todo:
            raise InputError(f"No images in {sources}.")
        return _list_all(args, options, todo)


def _list_all(args: argparse.Namespace, options: RestoreOptions, todo: JobPlan) -> int:
    from ..batch.local import attempt
    from ..pipeline.model_set import load_detector
    from ..pipeline.report import OutcomeCounts
    from ..weights.download_options import DownloadOptions

    with progress_reporter(args) as progress:
        downloads = DownloadOptions.from_environment(args.offline, args.require_digest)
        detector = load_detector(args.detector, args.models_dir, args.device, args.dtype, progress, downloads)
    counts = OutcomeCounts()
    with progress_reporter(args, len(todo)) as show:
        for done, job in enumerate(todo, 1):
            outcome = attempt(job, partial(_detect_one, job, detector, options, args.output is not None, show))
            if outcome.error is not None:
                show.error(str(outcome.error))
            counts.add(outcome)
            show.step(done)
    return exit_status(counts.errors, counts.total)


def _detect_one(
    job: ImageJob, detector: Detector, options: RestoreOptions, write_images: bool, reporter: ProgressReporter
) -> None:
    """Says what is in one image."""
    from ..batch import io
    from ..pipeline.restorer import detect_faces

    encoded = io.read(job.source)
    (faces,) = detect_faces(detector, [encoded.image], options)
    smallest, largest = detector.detectable_sizes(encoded.image, options.detection_size)
    size = pixels_text(*encoded.image.size)
    size_range = f"faces of about {smallest:.0f} to {largest:.0f} px can be found"
    reporter.write(f"{job.source}: {pluralize(len(faces), 'face')} ({size}; {size_range})", sys.stdout)
    for number, face in enumerate(faces):
        reporter.write(f"{number:4}  {_format_face(face)}", sys.stdout)
    if write_images:
        _write_numbered(job, encoded, faces, reporter)


def _format_face(face: Face) -> str:
    box = ",".join(f"{v:.0f}" for v in face.box)
    size = pixels_text(face.width, face.height)
    return f"{box:24} {size:>14}  score {face.score:.3f}{f'  {face.reason}' if face.reason else ''}"


def _write_numbered(job: ImageJob, encoded: EncodedImage, faces: Sequence[Face], reporter: ProgressReporter) -> None:
    from ..batch.io import format_of, write_bytes
    from ..faces.draw import draw_faces
    from ..images import codecs
    from ..images.image import from_array, to_rgb8

    drawn = codecs.EncodedImage(
        from_array(draw_faces(to_rgb8(encoded.image), faces)), encoded.metadata, encoded.format, encoded.lossy
    )
    write_bytes(job.target, codecs.encode(drawn, format_of(job.target, encoded.format)))
    for note in encoded.dropped_note:
        reporter.note(f"{job.source}: {note}")

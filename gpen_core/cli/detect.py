"""`gpen detect`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batch.locations import place_of
from ..errors import InputError
from ..options import RestoreOptions
from ..progress import pluralize
from .arguments import detection_arguments, models_argument, options_of, order_argument
from .exit_status import exit_status
from .progress_display import ProgressReporter, progress_reporter
from .report_text import pixels_text

if TYPE_CHECKING:
    from ..batch.job import Job
    from ..batch.job_plan import Plan
    from ..faces.detection.retinaface import Detector
    from ..faces.face import Face
    from ..images.codecs import Photo


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    detect = commands.add_parser("detect", parents=[shared], help="list the faces of pictures with their numbers")
    detect.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob pattern")
    detect.add_argument("-o", "--output", type=place_of, metavar="DIR", help="write the pictures there, the faces numbered")
    models_argument(detect)
    detection_arguments(detect)
    order_argument(detect)
    detect.set_defaults(command=_detect)


def _detect(given: argparse.Namespace) -> int:
    from ..batch.job_plan import Plan, Wishes
    from ..batch.sources import Sources

    options = options_of(given)
    sources = Sources(tuple(given.inputs))
    with Plan(sources, Wishes(given.output, in_place=given.output is None)) as todo:
        if not todo:
            raise InputError(f"No pictures in {sources}.")
        return _list_all(given, options, todo)


def _list_all(given: argparse.Namespace, options: RestoreOptions, todo: Plan) -> int:
    from ..batch.local import attempted
    from ..pipeline.model_set import load_detector
    from ..pipeline.report import OutcomeCounts
    from ..weights.download_options import DownloadOptions

    with progress_reporter(given) as progress:
        downloads = DownloadOptions.from_environment(given.offline, given.require_digest)
        detector = load_detector(given.detector, given.models_dir, given.device, given.dtype, progress, downloads)
    counts = OutcomeCounts()
    with progress_reporter(given, len(todo)) as show:
        for done, job in enumerate(todo, 1):
            outcome = attempted(job, partial(_list, job, detector, options, given.output is not None, show))
            if outcome.error is not None:
                show.error(str(outcome.error))
            counts.add(outcome)
            show.step(done)
    return exit_status(counts.errors, counts.total)


def _list(job: Job, detector: Detector, options: RestoreOptions, writes: bool, show: ProgressReporter) -> None:
    """Says what is in one picture."""
    from ..batch import io
    from ..pipeline.restorer import detect_faces

    photo = io.read(job.source)
    (faces,) = detect_faces(detector, [photo.picture], options)
    smallest, largest = detector.sizes(photo.picture, options.detection_size)
    size = pixels_text(*photo.picture.size)
    reach = f"faces of about {smallest:.0f} to {largest:.0f} px can be found"
    show.write(f"{job.source}: {pluralize(len(faces), 'face')} ({size}; {reach})", sys.stdout)
    for number, face in enumerate(faces):
        show.write(f"{number:4}  {_line(face)}", sys.stdout)
    if writes:
        _write(job, photo, faces, show)


def _line(face: Face) -> str:
    box = ",".join(f"{v:.0f}" for v in face.box)
    size = pixels_text(face.width, face.height)
    return f"{box:24} {size:>14}  score {face.score:.3f}{f'  {face.reason}' if face.reason else ''}"


def _write(job: Job, photo: Photo, faces: Sequence[Face], show: ProgressReporter) -> None:
    from ..batch.io import format_of, write_bytes
    from ..faces.draw import numbered
    from ..images import codecs
    from ..images.image import from_array, rgb8

    drawn = codecs.Photo(from_array(numbered(rgb8(photo.picture), faces)), photo.metadata, photo.format, photo.lossy)
    write_bytes(job.target, codecs.encode(drawn, format_of(job.target, photo.format)))
    for note in photo.left_out:
        show.note(f"{job.source}: {note}")

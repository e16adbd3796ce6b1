"""`gpen detect`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.locations import parse_location, parse_output
from ..errors import InputError
from ..options import CLI, RestoreOptions, VideoOptions, declared_options
from ..progress import pluralize
from . import detect_video
from .arguments import add_device_arguments, add_option_arguments, options_from_args, parse_seconds
from .detect_people import PeopleCollector
from .exit_status import exit_status
from .model_loading import downloads_from_args, open_store, without_garbage_collection
from .progress_display import ProgressReporter, progress_reporter
from .report_text import pixels_text
from .terminal import print_error

if TYPE_CHECKING:
    from ..batch.job import ImageJob
    from ..batch.job_plan import JobPlan
    from ..faces.detection.retinaface import Detector
    from ..faces.face import Face
    from ..images.codecs import EncodedImage
    from ..pipeline.identity_models import IdentityModels

DESCRIPTION = """Lists the faces in images, and the people in videos, with the numbers that --faces uses.

  gpen detect photo.jpg -o seen/
  gpen detect photos/ -o seen/ --recursive --join-people on
  gpen detect video.mp4 -o people"""
RANGES_HELP = (
    "Look for faces only between these two times and up to one second around, as gpen video --range does. May be given "
    "several times."
)

JOIN_HELP = (
    "Gives a person one number in all shots of a video, and in all images with -o, by comparing faces with SFace. auto: if "
    "SFace is downloaded. on: downloads it (39 MB). off: a person may have another number in each shot or image."
)


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    detect = commands.add_parser(
        "detect",
        parents=[shared],
        help="list the faces in images and videos with their numbers",
        description=DESCRIPTION,
    )
    detect.add_argument("inputs", nargs="+", metavar="INPUT", help="images, folders, patterns or videos")
    detect.add_argument(
        "-o",
        "--output",
        type=parse_output,
        metavar="DIR",
        help="also write to this folder: images with numbered faces, a page of the people with their images or times, and "
        "the tracks of videos for gpen video --tracks DIR",
    )
    detect.add_argument("--recursive", action="store_true", help="recurse into subfolders, mirroring them below DIR")
    add_device_arguments(detect, with_model=False)
    others = ("faces", "min_face_size", "max_face_size", "max_faces")
    add_option_arguments(detect, RestoreOptions, "selection", "detection", without=others)
    names = [option.name for option in declared_options(VideoOptions, CLI, "video")]
    without = [name for name in names if name not in detect_video.OPTIONS]
    types = dict.fromkeys(("start", "end"), parse_seconds)
    helps = {"ranges": RANGES_HELP, "join_people": JOIN_HELP}
    add_option_arguments(detect, VideoOptions, "video", without=without, helps=helps, types=types)
    detect.set_defaults(command=_detect)


def _detect(args: argparse.Namespace) -> int:
    options = options_from_args(args)
    videos = detect_video.unique_videos(args.inputs)
    images = [text for text in args.inputs if not detect_video.is_video(text)]
    load = cache(partial(_load_detector, args))
    errors, total = Counter[type[BaseException]](), len(videos)
    with ExitStack() as stack:
        plan = None
        if images:
            total += 1
            try:
                plan = stack.enter_context(_plan_images(args, images))
                total += len(plan) - 1
            except InputError as error:  # the arguments mean no image
                if not videos:
                    raise
                print_error(error)
                errors[type(error)] += 1
        if videos:
            errors += detect_video.list_people(args, videos, load, partial(_identity_models, args), options, plan)
        if plan is not None:
            errors += _detect_images(args, images, load, options, plan)
    return exit_status(errors, total)


def _plan_images(args: argparse.Namespace, inputs: Sequence[str]) -> JobPlan:
    """Return the images and their outputs. Raises `InputError` if there is none."""
    from ..batch.job_plan import JobPlan
    from ..batch.output_names import OutputSpec
    from ..batch.sources import Sources

    sources = Sources(
        tuple(inputs), recursive=args.recursive, excluded=None if args.output is None else args.output.location
    )
    out = args.output
    # Without -o nothing is written, and a plan in place has no conflicts.
    spec = OutputSpec(None, in_place=True) if out is None else OutputSpec(out.location, is_folder=out.is_folder)
    plan = JobPlan(sources, spec)
    if not plan:
        plan.close()
        raise InputError(sources.no_images_text())
    return plan


def _detect_images(
    args: argparse.Namespace, inputs: Sequence[str], load: Callable[[], Detector], options: RestoreOptions, plan: JobPlan
) -> Counter[type[BaseException]]:
    """List the faces of the images, and return the failed ones by their errors."""
    from ..batch.input_check import find_unreadable

    unreadable = find_unreadable(plan, {str(parse_location(one)) for one in inputs})
    for error in unreadable.values():
        print_error(error)
    if len(unreadable) == len(plan):  # do not load or download anything
        return Counter(map(type, unreadable.values()))
    return _list_images(args, load(), options, plan, unreadable)


def _begin_collecting(
    args: argparse.Namespace, detector: Detector, plan: JobPlan, reporter: ProgressReporter
) -> PeopleCollector | None:
    """Return the collector of people for a folder or several images, if there is a folder to write it to."""
    from ..files.path_checks import is_folder

    if args.output is None or (len(plan) == 1 and not any(map(is_folder, args.inputs))):
        return None
    folder = args.output.location
    if not isinstance(folder, Path):
        reporter.note("the page of the people is not written, because it needs a local folder for -o")
        return None
    if len(plan) == 1 and next(iter(plan)).target == folder:  # it is a file
        return None
    inputs = [text for text in args.inputs if not detect_video.is_video(text)] + ["--recursive"] * args.recursive
    collector = PeopleCollector.begin(args, inputs, folder, detector, _identity_models(args, detector), reporter)
    collector.check_outputs(plan)
    return collector


def _identity_models(args: argparse.Namespace, detector: Detector) -> IdentityModels:
    from ..pipeline.identity_models import IdentityModels

    return IdentityModels.from_store(detector, open_store(args, offline=args.offline, require_digest=args.require_digest))


def _load_detector(args: argparse.Namespace) -> Detector:
    with without_garbage_collection():
        from ..pipeline.model_set import load_detector

    with progress_reporter(args) as progress:
        downloads = downloads_from_args(args)
        return load_detector(args.detector, args.models_dir, args.device, args.dtype, progress, downloads)


def _list_images(
    args: argparse.Namespace,
    detector: Detector,
    options: RestoreOptions,
    plan: JobPlan,
    unreadable: Mapping[str, InputError],
) -> Counter[type[BaseException]]:
    """Print the faces of all readable images, and write what -o asks for. Return the failed images by their errors."""
    from ..batch.local import attempt
    from ..pipeline.report import OutcomeCounts

    counts, face_counts = OutcomeCounts(), []
    with progress_reporter(args, len(plan)) as reporter:
        collector = _begin_collecting(args, detector, plan, reporter)

        def list_one(job: ImageJob) -> None:
            if (error := unreadable.get(str(job.source))) is not None:
                raise error
            face_counts.append(_list_image(job, detector, options, args.output is not None, collector, reporter))

        for done, job in enumerate(plan, 1):
            outcome = attempt(job, partial(list_one, job))
            if outcome.error is not None and str(job.source) not in unreadable:
                reporter.error(str(outcome.error))
            if outcome.error is not None and collector is not None:
                collector.add_failed(job.source, outcome.error)
            counts.add(outcome)
            reporter.step(done)
        if len(plan) > 1:
            failed = f", {len(plan) - len(face_counts):,} failed" if len(plan) > len(face_counts) else ""
            empty = f", none in {face_counts.count(0):,}" if 0 in face_counts else ""
            reporter.summarize(
                f"{pluralize(len(plan), 'image')}: {pluralize(sum(face_counts), 'face')} found{empty}{failed}"
            )
        if collector is not None:
            collector.write(reporter)
    return counts.errors


def _list_image(
    job: ImageJob,
    detector: Detector,
    options: RestoreOptions,
    write_images: bool,
    collector: PeopleCollector | None,
    reporter: ProgressReporter,
) -> int:
    """Print the faces of one image and return their number."""
    from ..batch import image_io
    from ..pipeline.face_detection import detect_faces
    from ..pipeline.no_face import what_to_try

    encoded = image_io.read(job.source)
    (faces,) = detect_faces(detector, [encoded.image], options)
    smallest, largest = detector.detectable_sizes(encoded.image, options.detection_size)
    size = pixels_text(*encoded.image.size)
    size_range = f"detectable faces: about {smallest:.0f} to {largest:.0f} px"
    reporter.write(f"{job.source}: {pluralize(len(faces), 'face')} ({size}; {size_range})", sys.stdout)
    for number, face in enumerate(faces):
        reporter.write(f"{number:4}  {_format_face(face)}", sys.stdout)
    if not faces:
        reporter.write(f"  {what_to_try(smallest)}", sys.stdout)
    if write_images:
        _write_numbered(job, encoded, faces, reporter)
    if collector is not None:
        collector.add(job, encoded.image, faces)
    return len(faces)


def _format_face(face: Face) -> str:
    box = ",".join(f"{v:.0f}" for v in face.box)
    size = pixels_text(face.width, face.height)
    return f"{box:24} {size:>14}  score {face.score:.3f}{f'  {face.reason}' if face.reason else ''}"


def _write_numbered(job: ImageJob, encoded: EncodedImage, faces: Sequence[Face], reporter: ProgressReporter) -> None:
    from ..batch.image_io import format_of, write_bytes
    from ..faces.draw import draw_faces
    from ..images import codecs
    from ..images.image import from_array

    drawn = codecs.EncodedImage(
        from_array(draw_faces(encoded.image, faces)), encoded.metadata, encoded.format, encoded.lossy
    )
    data, notes = codecs.encode_with_notes(drawn, format_of(job.target, encoded.format))
    write_bytes(job.target, data)
    for note in notes:
        reporter.note(f"{job.source}: {note}")

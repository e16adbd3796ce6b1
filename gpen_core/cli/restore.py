"""`gpen restore`."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..batch.locations import parse_location, parse_output
from ..errors import InputError, OptionsError
from ..options import RestoreOptions
from .arguments import (
    add_device_arguments,
    add_input_list,
    add_option_arguments,
    add_output_arguments,
    add_ray_arguments,
    add_run_arguments,
    options_from_args,
    parse_local_path,
)
from .exit_status import exit_status
from .model_loading import check_workers, cluster_from_args, load_local, load_restorer, restorer_loader
from .progress_display import ProgressReporter, progress_reporter
from .read_files import read_files
from .run_report import open_run_report, report_names
from .terminal import input_error_text, print_error

if TYPE_CHECKING:
    from ..batch.job import ImageJob
    from ..batch.job_plan import JobPlan
    from ..batch.output_names import OutputSpec
    from ..batch.report_files import Report
    from ..batch.sources import Sources
    from ..pipeline.report import ImageOutcome
    from ..pipeline.restorer import FaceRestorer

log = logging.getLogger(__name__)

DESCRIPTION = """Detects the faces in images, restores them with GPEN and pastes them back. The rest does not change.

  gpen restore photo.jpg -o restored/
  gpen restore "shots/**/*.png" -o restored/ --strength 0.7 --faces largest"""
FACES_HELP = (
    "Faces to restore: all, largest, center, numbers starting at 0, e.g. 0,2-4, or people: like:PHOTO, not:PHOTO. PHOTO is "
    "a photo of one person, or a folder of photos of one person. May be given several times."
)


def add_command(commands: Any, shared: argparse.ArgumentParser, epilog: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "restore",
        parents=[shared],
        help="restore the faces in images",
        usage="gpen restore INPUT... (-o OUT | --in-place) [options]",
        description=DESCRIPTION,
        epilog=epilog,
    )
    _add_arguments(parser)
    parser.set_defaults(command=_restore)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", default=[], help="images, folders, patterns or URLs (s3://..., gs://...)"
    )
    files = parser.add_argument_group("input and output")
    add = files.add_argument
    add_input_list(files, inputs)
    add("--recursive", action="store_true", help="recurse into subfolders, mirroring them below OUT")
    destination = files.add_mutually_exclusive_group(required=True)
    destination.add_argument(
        "-o",
        "--output",
        type=parse_output,
        metavar="OUT",
        help="output folder (end a new one with /), or a file for one input. Replaces existing files, but never inputs",
    )
    destination.add_argument("--in-place", action="store_true", help="replace the inputs by the results")
    add("--skip-existing", action="store_true", help="skip images whose output already exists, to resume a run")
    add_output_arguments(files)
    add_device_arguments(parser)
    add_option_arguments(parser, RestoreOptions, "selection", "detection", "look", "upscale", helps={"faces": FACES_HELP})
    add = parser.add_argument_group("files that guide the restoration").add_argument
    add(
        "--boxes",
        type=_parse_boxes,
        metavar="X0,Y0,X1,Y1;...",
        help="restore only faces in these boxes (px), and search them more closely",
    )
    add(
        "--before-swap",
        type=parse_local_path,
        metavar="FILE",
        help="image before a face swap, or a folder: restore only faces that differ from it",
    )
    add(
        "--region-mask",
        type=parse_local_path,
        metavar="MASKFILE",
        help="mask image, or a folder: restore only where it is white",
    )
    add(
        "--background",
        type=parse_local_path,
        metavar="FILE",
        help="upscaled copy of the input, or a folder: paste the faces into it",
    )
    add_run_arguments(parser)
    add_ray_arguments(parser)


def _parse_boxes(text: str) -> tuple[tuple[float, float, float, float], ...]:
    try:
        boxes = [tuple(float(number) for number in box.split(",")) for box in text.split(";") if box.strip()]
    except ValueError:
        boxes = []
    if not boxes or any(len(box) != 4 for box in boxes):
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1 in pixels, separated by semicolons if several, got {text!r}")
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)


def _check_upscale(args: argparse.Namespace, options: RestoreOptions) -> None:
    """Raise `OptionsError` for contradicting arguments, before anything is loaded."""
    if options.upscale != 1 and args.background is not None:
        raise OptionsError("--background is already upscaled, so it cannot be combined with --upscale. Use one of them.")
    if options.upscale == 1 and options.upscaler != RestoreOptions().upscaler:
        raise OptionsError(f"--upscaler {options.upscaler} needs a factor. Add --upscale 2, for example.")


def _restore(args: argparse.Namespace) -> int:
    from ..batch.input_kinds import IMAGES, IMAGES_IN_PLACE
    from ..batch.job_plan import JobPlan
    from ..batch.sources import Sources

    options = options_from_args(args)
    _check_upscale(args, options)
    if args.skip_existing and args.in_place:
        raise OptionsError("--skip-existing would skip every image with --in-place. Use -o OUT instead.")
    check_workers(args)
    if not args.inputs and args.input_list is None:
        raise OptionsError("No input is given. Name images or folders, or use --input-list FILE.")
    out = None if args.output is None else args.output.location
    kind = IMAGES_IN_PLACE if args.in_place else IMAGES
    sources = Sources(tuple(args.inputs), args.input_list, args.recursive, out, kind=kind)
    with JobPlan(sources, _output_spec(args), read_files(args, options)) as plan:
        plan.check_outputs()
        if args.report is not None:
            plan.check_report(args.report)
        return _run(args, options, plan, sources)


def _output_spec(args: argparse.Namespace) -> OutputSpec:
    from ..batch.output_names import OutputSpec

    return OutputSpec(
        out=None if args.output is None else args.output.location,
        in_place=args.in_place,
        before_swap=args.before_swap,
        background=args.background,
        boxes=args.boxes,
        region_mask=args.region_mask,
        is_folder=args.output is not None and args.output.is_folder,
        format=args.format,
        suffix=args.suffix,
        quality=args.quality,
        max_pixels=args.max_pixels,
    )


def _run(args: argparse.Namespace, options: RestoreOptions, plan: JobPlan, sources: Sources) -> int:
    from ..batch.input_check import find_unreadable
    from ..batch.job import is_done

    with open_run_report(args, options, report_names(args, options), sources.left_out) as report:
        if not len(plan):
            raise InputError(sources.no_images_text())
        named = {str(parse_location(one)) for one in args.inputs}
        unreadable = find_unreadable(plan, named, is_done if args.skip_existing else lambda job: False)
        run = _Run(args, options, plan, report, unreadable)
        if len(unreadable) == len(plan):  # do not load or download anything
            run.fail_all()
        elif args.ray is None:
            restorer = load_restorer(args, options, report.begin)
            run.restore_all(restorer)
        else:
            run.restore_on_ray()
    return exit_status(report.counts.errors, report.counts.total)


class _Run:
    """A run over planned images."""

    def __init__(
        self,
        args: argparse.Namespace,
        options: RestoreOptions,
        plan: JobPlan,
        report: Report,
        unreadable: Mapping[str, InputError],
    ) -> None:
        """`unreadable` contains the errors that are already known. They are printed now, before anything is loaded."""
        self.args, self.options, self.plan, self.report, self.unreadable = args, options, plan, report, unreadable
        for error in unreadable.values():
            print_error(error)

    def fail_all(self) -> None:
        """Report that no image can be read."""
        from ..pipeline.report import ImageOutcome

        with self._outcome_callback() as (on_outcome, _):
            for job in self.plan:
                on_outcome(ImageOutcome(job, error=self.unreadable[str(job.source)]))

    def restore_all(self, restorer: FaceRestorer) -> None:
        """Restore the images in this process."""
        from ..batch import local

        with self._outcome_callback() as (on_outcome, reporter):
            local.process(
                restorer,
                self.plan,
                self.options,
                on_outcome,
                progress=reporter,
                max_memory=self.args.max_memory,
                is_done=self._is_done,
                require_all_faces=len(self.plan) == 1,
                measure_identity=self.args.report is not None and restorer.can_measure_identity,
            )

    def restore_on_ray(self) -> None:
        """Restore the images in the workers that `--ray` selects."""
        args, options = self.args, self.options
        cluster = cluster_from_args(args)
        from ..batch import ray_images

        load_local(args, options, "cpu")
        spec = ray_images.ImageWorkerSpec(
            restorer_loader(args, options),
            options,
            max_memory=args.max_memory,
            skip_existing=args.skip_existing,
            require_all_faces=len(self.plan) == 1,
            measure_identity=args.report is not None,
        )
        with self._outcome_callback() as (on_outcome, _):
            ray_images.run(self.plan, spec, cluster, on_outcome, self.report.begin)

    def _is_done(self, job: ImageJob) -> bool:
        """Return whether to skip the job. Raises its error if the input is unreadable."""
        from ..batch.job import is_done

        if (error := self.unreadable.get(str(job.source))) is not None:
            raise error
        return self.args.skip_existing and is_done(job)

    @contextlib.contextmanager
    def _outcome_callback(self) -> Iterator[tuple[Callable[[ImageOutcome], None], ProgressReporter]]:
        """Yield a callback that prints and reports each outcome at once, and the progress reporter. Prints the summary."""
        from .run_summary import RunSummary

        with progress_reporter(self.args, len(self.plan)) as reporter:
            destination = "in place" if self.args.in_place else f"to {self.args.output}"
            summary = RunSummary(reporter.summarize, len(self.plan), destination)

            def on_outcome(outcome: ImageOutcome) -> None:
                self.report.add(outcome)
                for note in outcome.notes:
                    reporter.note(input_error_text(outcome.files.source, note))
                if outcome.error is not None:
                    if str(outcome.files.source) not in self.unreadable:
                        reporter.error(str(outcome.error))
                    log.debug("Traceback:", exc_info=outcome.error)
                summary.add(outcome)
                reporter.step(self.report.counts.total)

            try:
                yield on_outcome, reporter
            finally:
                summary.end()

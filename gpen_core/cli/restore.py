"""`gpen restore`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batch.locations import place_of
from ..errors import InputError, MissingExtra, OptionsError
from ..options import MASK_TYPES, RestoreOptions
from .arguments import (
    DEFAULTS,
    detection_arguments,
    local_path,
    look_arguments,
    model_argument,
    models_argument,
    options_of,
    order_argument,
    ray_arguments,
    run_arguments,
    selection_arguments,
)
from .exit_status import exit_status
from .progress_display import NONE, ProgressReporter, progress_reporter

if TYPE_CHECKING:
    from ..batch.job_plan import Plan
    from ..batch.ray_cluster import Cluster
    from ..batch.report_files import Report
    from ..pipeline.report import Outcome
    from ..pipeline.restorer import FaceRestorer

log = logging.getLogger(__name__)

LOADED = ("model", "detector", "models_dir", "device", "dtype", "offline", "require_digest", "compile", "progress", "quiet")
"""The arguments that `loaded` has."""
UPSCALER = "for what is no face: lanczos, realesrnet_x2, realesrnet_x4, or an RRDBNet's file (needs spandrel or basicsr)"


def add_command(commands: Any, shared: argparse.ArgumentParser, epilog: str) -> None:
    """Adds the command to the parser's."""
    parser = commands.add_parser("restore", parents=[shared], help="restore the faces of pictures", epilog=epilog)
    models_argument(parser)
    _add_arguments(parser)
    parser.set_defaults(command=_restore)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    default = DEFAULTS
    add = parser.add_argument
    inputs = add(
        "inputs", nargs="+", metavar="INPUT", default=[], help="picture, folder or glob pattern; or s3://..., gs://..."
    )
    add(
        "--input-list",
        type=local_path,
        action=_listing(inputs),
        metavar="FILE",
        help="pictures: one path a line, or Parquet (path)",
    )
    add("--recursive", action="store_true", help="what lies deeper in folders, too, and keep the folders below OUT")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", type=place_of, metavar="OUT", help="a folder, or for one input a file")
    where.add_argument("--in-place", action="store_true", help="overwrite the inputs")
    model_argument(parser)
    detection_arguments(parser)
    order_argument(parser)
    selection_arguments(parser)
    add("--strength", type=float, default=default.strength, metavar="0..1")
    add("--boxes", type=_boxes, metavar="X0,Y0,X1,Y1;...", help="restore only faces in these, and look closely there")
    add("--mask-type", default=default.mask_type, choices=MASK_TYPES)
    look_arguments(parser)
    add("--upscale", type=float, default=default.upscale, metavar="F", help="enlarge the whole picture, up to 8 times")
    add("--upscaler", default=default.upscaler, metavar="NAME|FILE", help=UPSCALER)
    add(
        "--before-swap",
        type=local_path,
        metavar="FILE",
        help="restore only faces that differ from this picture (or folder)",
    )
    add("--region-mask", type=local_path, metavar="MASKFILE", help="restore only where this picture is white (or a folder)")
    add(
        "--background",
        type=local_path,
        metavar="FILE",
        help="put the faces into this picture, the same enlarged (or a folder)",
    )
    run_arguments(parser, "what was found and done, as JSON; to a name with .jsonl as JSON Lines, while it goes on")
    ray_arguments(parser)
    add("--skip-existing", action="store_true", help="leave out pictures whose output is there: a run that ended goes on")


def _listing(inputs: argparse.Action) -> type[argparse.Action]:
    """With it, inputs need not be named (which argparse's own `*` cannot say where options stand before them)."""

    class Listing(argparse.Action):
        def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
            inputs.required = False
            setattr(namespace, self.dest, values)

    return Listing


def _boxes(text: str) -> tuple[tuple[float, float, float, float], ...]:
    try:
        boxes = [tuple(float(number) for number in box.split(",")) for box in text.split(";") if box.strip()]
    except ValueError:
        boxes = []
    if not boxes or any(len(box) != 4 for box in boxes):
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1 in pixels, several by semicolons, got {text!r}")
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)


def _check_upscale(given: argparse.Namespace, options: RestoreOptions) -> None:
    """Raises `OptionsError` for what contradicts, before anything is loaded."""
    if options.upscale != 1 and given.background is not None:
        raise OptionsError("--background is the picture enlarged already, and --upscale enlarges it: give one of the two.")
    if options.upscale == 1 and options.upscaler != DEFAULTS.upscaler:
        raise OptionsError(f"--upscaler {options.upscaler} enlarges nothing without --upscale F: say how many times.")


def loaded(
    given: argparse.Namespace, options: RestoreOptions, known: Callable[[FaceRestorer], None] = lambda restorer: None
) -> FaceRestorer:
    """The networks that a run with these arguments needs, fetched where they are missing. `known` hears of what can be said
    of them before all that the options need is there."""
    from ..pipeline.restorer import FaceRestorer
    from ..weights.download_options import DownloadOptions

    with progress_reporter(given) as progress:
        restorer = FaceRestorer.load(
            given.model,
            given.detector,
            given.models_dir,
            given.device,
            given.dtype,
            progress=progress,
            downloads=DownloadOptions.from_environment(given.offline, given.require_digest),
            upscaler=options.upscaler,
        )
        known(restorer)
        restorer.prepare(options, progress)
    if given.compile:
        restorer.record()
    return restorer


def _restore(given: argparse.Namespace) -> int:
    from ..batch.job_plan import Plan, Wishes
    from ..batch.sources import Sources

    options = options_of(given)
    _check_upscale(given, options)
    if given.skip_existing and given.in_place:
        raise OptionsError("--skip-existing would skip every picture with --in-place: each is there already. Give -o OUT.")
    check_workers(given)
    if not given.inputs and given.input_list is None:
        raise OptionsError("Say which pictures: INPUT..., or --input-list FILE.")
    sources = Sources(tuple(given.inputs), given.input_list, given.recursive, given.output)
    wishes = Wishes(given.output, given.in_place, given.before_swap, given.background, given.boxes, given.region_mask)
    with Plan(sources, wishes) as todo:
        if given.report is not None:
            todo.check_report(given.report)
        return _work_through(given, options, todo, str(sources))


def _work_through(given: argparse.Namespace, options: RestoreOptions, todo: Plan, sources: str) -> int:
    from ..batch import report_files

    names = {"model": given.model, "detector": given.detector}
    if given.report is not None and given.skip_existing:
        report_files.warn_of_others(given.report, names, options)
    report = report_files.of(given.report, names, options, given.skip_existing)
    failure: str | None = None
    try:
        if not len(todo):
            raise InputError(f"No pictures in {sources}.")
        if given.ray is None:
            restorer = loaded(given, options, report.begin)
            _restore_all(given, restorer, todo, options, report)
        else:
            _restore_on_ray(given, todo, options, report)
    except BaseException as error:
        failure = str(error) or type(error).__name__
        raise
    finally:
        report.end(failure)
    return exit_status(report.counts.errors, report.counts.total)


def _restore_all(
    given: argparse.Namespace, restorer: FaceRestorer, todo: Plan, options: RestoreOptions, report: Report
) -> None:
    from ..batch import local
    from ..batch.job import is_done

    skip = is_done if given.skip_existing else None
    with progress_reporter(given, len(todo)) as show:
        local.stream(restorer, todo, options, _telling(show, report), show, given.max_memory, skip)


def _restore_on_ray(given: argparse.Namespace, todo: Plan, options: RestoreOptions, report: Report) -> None:
    which = cluster_of(given)
    from ..batch import ray_images

    loaded_here(given, options, "cpu")
    work = ray_images.Work(loader(given, options), options, given.max_memory, given.skip_existing)
    with progress_reporter(given, len(todo)) as show:
        ray_images.run(todo, work, which, _telling(show, report), report.begin)


def check_workers(given: argparse.Namespace) -> None:
    """Raises `OptionsError` for workers of nothing."""
    if given.workers is not None and given.ray is None:
        raise OptionsError("--workers is for --ray: without it, all is done in one process.")


def cluster_of(given: argparse.Namespace) -> Cluster:
    """What `--ray` and `--workers` name. Raises `MissingExtra`, and `OptionsError` for what cannot be."""
    try:
        from ..batch import ray_cluster
    except ImportError as error:  # a registry's copy of this package may leave out what opens connections
        raise MissingExtra(f"This copy has no --ray ({error}). Install the project from its repository.") from error
    which = ray_cluster.Cluster(None if given.ray == "local" else given.ray, given.workers, given.device)
    ray_cluster.check()
    return which


def loaded_here(given: argparse.Namespace, options: RestoreOptions, device: str) -> FaceRestorer:
    """Weights are looked for, fetched and checked before any worker needs them; where those run on another machine, the
    first of them fetches what is missing there."""
    return loaded(argparse.Namespace(**{**_networks(given), "device": device, "dtype": "auto", "compile": False}), options)


def loader(given: argparse.Namespace, options: RestoreOptions) -> Callable[[], FaceRestorer]:
    """For a worker."""
    return partial(loaded, argparse.Namespace(**{**_networks(given), "progress": NONE}), options)


def _networks(given: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(given).items() if key in LOADED}


def _telling(show: ProgressReporter, report: Report) -> Callable[[Outcome], None]:
    """Tells of one by one, so that those before an interruption are known."""

    done = 0

    def finished(outcome: Outcome) -> None:
        nonlocal done
        report.add(outcome)
        for note in outcome.notes:
            show.note(f"{outcome.job.source}: {note}")
        if outcome.error is not None:
            show.error(str(outcome.error))
            log.debug("In full:", exc_info=outcome.error)
        done += 1
        show.step(done)

    return finished

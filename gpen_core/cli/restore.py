"""`gpen restore`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OptionsError
from ..options import MASKS, RestoreOptions
from .arguments import (
    DEFAULTS,
    detection_arguments,
    look_arguments,
    model_argument,
    models_argument,
    options_of,
    order_argument,
    run_arguments,
    selection_arguments,
)
from .terminal import printable
from .weights import byte_bar

if TYPE_CHECKING:
    from ..batch.jobs import Job
    from ..report import Outcome
    from ..restorer import FaceRestorer

log = logging.getLogger(__name__)

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
    add("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob pattern")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", type=Path, metavar="OUT", help="a folder, or for one input a file")
    where.add_argument("--in-place", action="store_true", help="overwrite the inputs")
    model_argument(parser)
    detection_arguments(parser)
    order_argument(parser)
    selection_arguments(parser)
    add("--strength", type=float, default=default.strength, metavar="0..1")
    add("--boxes", type=_boxes, metavar="X0,Y0,X1,Y1;...", help="restore only faces in these, and look closely there")
    add("--mask", default=default.mask, choices=MASKS)
    look_arguments(parser)
    add("--upscale", type=float, default=default.upscale, metavar="F", help="enlarge the whole picture, up to 8 times")
    add("--upscaler", default=default.upscaler, metavar="NAME|FILE", help=UPSCALER)
    add("--changed-from", type=Path, metavar="ORIGINAL", help="restore only faces that differ from this picture (or folder)")
    add("--limit", type=Path, metavar="MASKFILE", help="restore only where this picture is white (or a folder)")
    add("--background", type=Path, metavar="FILE", help="put the faces into this picture, the same enlarged (or a folder)")
    run_arguments(parser)


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


def loaded(given: argparse.Namespace, options: RestoreOptions) -> FaceRestorer:
    """The networks that a run with these arguments needs, fetched where they are missing."""
    from ..restorer import FaceRestorer
    from ..weights.downloads import DownloadOptions

    with byte_bar() as progress:
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
        restorer.prepare(options, progress)
    if given.compile:
        restorer.record()
    return restorer


def _restore(given: argparse.Namespace) -> int:
    from .. import report
    from ..batch import jobs
    from ..pictures.whole_file import write_bytes

    options = options_of(given)
    _check_upscale(given, options)
    sources = jobs.expand(given.inputs)
    todo = jobs.plan(sources, given.output, given.in_place, given.changed_from, given.background, given.boxes, given.limit)
    if given.report is not None:
        jobs.check_report(given.report, todo)
    names: dict[str, Any] = {"model": given.model, "detector": given.detector}
    restorer: FaceRestorer | None = None
    failure: str | None = None
    outcomes: list[Outcome] = []
    try:
        if not todo:
            raise InputError(f"No pictures in {', '.join(given.inputs)}.")
        restorer = loaded(given, options)
        _restore_all(restorer, todo, options, given.max_memory, outcomes)
    except BaseException as error:
        failure = str(error) or type(error).__name__
        raise
    finally:
        if given.report is not None:
            write_bytes(given.report, report.report(restorer, names, options, outcomes, failure).encode())
    return report.exit_status(outcomes)


def _restore_all(
    restorer: FaceRestorer,
    todo: Sequence[Job],
    options: RestoreOptions,
    max_memory: int | None,
    outcomes: list[Outcome],
) -> None:
    """Fills `outcomes` one by one, so that those before an interruption are known."""
    from tqdm import tqdm

    from ..batch import local

    with tqdm(total=len(todo), unit="picture", file=sys.stderr, disable=None) as bar:

        def finished(outcome: Outcome) -> None:
            outcomes.append(outcome)
            bar.update()
            for note in outcome.notes:
                tqdm.write(printable(f"gpen: {outcome.job.source}: {note}"), file=sys.stderr)
            if outcome.error is not None:
                tqdm.write(printable(f"gpen: {outcome.error}"), file=sys.stderr)
                log.debug("In full:", exc_info=outcome.error)

        shown = ""

        def faces_done(done: int, total: int, text: str) -> None:
            nonlocal shown
            at = f"{text} {done}/{total}" if total else text
            if at != shown:  # it is told many times within a face
                bar.set_postfix_str(at)
                shown = at

        local.run(restorer, todo, options, finished, faces_done, max_memory)

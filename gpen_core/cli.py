"""The command line."""

from __future__ import annotations

import argparse
import io
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, cli_detect, cli_weights
from .errors import DeviceError, GpenError, InputError, Interrupted, OptionsError, OutOfMemory, WeightsError, first_line
from .options import CHOICES, COLORS, MASKS, TEMPLATES, RestoreOptions

if TYPE_CHECKING:
    from . import batch
    from .jobs import Job
    from .restorer import FaceRestorer

log = logging.getLogger(__name__)

EXIT_STATUS: tuple[tuple[type[GpenError], int], ...] = (
    (OptionsError, 2),
    (DeviceError, 2),
    (InputError, 3),
    (WeightsError, 4),
    (OutOfMemory, 5),
    (Interrupted, 130),
)
EPILOG = """exit status: 0 all done; 1 some inputs failed (the others are written); 2 usage; 3 no input could be read;
4 weights missing or refused; 5 out of memory on every fallback; 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; errors are one message on stderr, with `--debug` the traceback."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a folder's name may hold letters that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.DEBUG if options.debug else logging.WARNING)
    for noisy in ("PIL", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return _say("Interrupted.", 130)
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        return _say(_message(error), next((status for kind, status in EXIT_STATUS if isinstance(error, kind)), 1))


def _message(error: Exception) -> str:
    if isinstance(error, GpenError):
        return str(error) or f"{type(error).__name__}."
    return f"Unexpected {type(error).__name__}: {first_line(error)}. Run again with --debug and report it, please."


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"gpen: {message}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gpen", description="Restores faces with GPEN.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"gpen {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    restore = commands.add_parser("restore", parents=[shared], help="restore the faces of pictures", epilog=EPILOG)
    _models_argument(restore)
    _restore_arguments(restore)
    cli_detect.add_command(commands, shared, _models_argument)
    demo = commands.add_parser("demo", parents=[shared], help="run everything with demonstration weights, no download")
    demo.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="DIR", help="default: demo")
    demo.set_defaults(command=_demo)
    cli_weights.add_commands(commands, shared, _models_argument)
    doctor = commands.add_parser("doctor", parents=[shared], help="say what is installed and what is missing")
    _models_argument(doctor)
    doctor.set_defaults(command=_doctor)
    return parser


def _models_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: $GPEN_MODELS_DIR, else the cache directory")


def _restore_arguments(parser: argparse.ArgumentParser) -> None:
    default = RestoreOptions()
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob pattern")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", type=Path, metavar="OUT", help="a folder, or for one input a file")
    where.add_argument("--in-place", action="store_true", help="overwrite the inputs")
    add("--model", default="gpen-bfr-2048", metavar="NAME|FILE")
    cli_detect.detection_arguments(parser)
    add("--strength", type=float, default=default.strength, metavar="0..1")
    add("--faces", default=default.faces, metavar=f"{'|'.join(CHOICES)}|0,2-4", help="numbers count from 0 in --order")
    add("--min-face", type=float, default=default.min_face, metavar="PX", help="shorter side of a face's box")
    add("--max-faces", type=int, default=default.max_faces, metavar="N", help="the largest N")
    add("--boxes", type=_boxes, metavar="X0,Y0,X1,Y1;...", help="restore only faces in these, and look closely there")
    add("--template", default=default.template, choices=TEMPLATES)
    add("--mask", default=default.mask, choices=MASKS)
    add("--color", default=default.color, choices=COLORS)
    add("--changed-from", type=Path, metavar="ORIGINAL", help="restore only faces that differ from this picture (or folder)")
    add("--background", type=Path, metavar="FILE", help="put the faces into this picture, the same enlarged (or a folder)")
    add("--max-memory", type=_bytes, metavar="BYTES", help="for activations, e.g. 4000000000 or 4G")
    add("--compile", action="store_true", help="for many faces on CUDA or ROCm: torch.compile and CUDA graphs")
    add("--report", type=Path, metavar="FILE.json", help="what was found and done, as JSON")
    parser.set_defaults(command=_restore)


def _bytes(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number of bytes such as 4000000000, 4G or 500M, got {text!r}")
    return value


def _boxes(text: str) -> tuple[tuple[float, float, float, float], ...]:
    try:
        boxes = [tuple(float(number) for number in box.split(",")) for box in text.split(";") if box.strip()]
    except ValueError:
        boxes = []
    if not boxes or any(len(box) != 4 for box in boxes):
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1 in pixels, several by semicolons, got {text!r}")
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)


def _options(given: argparse.Namespace) -> RestoreOptions:
    return RestoreOptions(**{name: getattr(given, name) for name in RestoreOptions.__dataclass_fields__})


def _restore(given: argparse.Namespace) -> int:
    from . import batch, files, jobs
    from .restorer import FaceRestorer
    from .weights.options import DownloadOptions

    options = _options(given)
    sources = jobs.expand(given.inputs)
    todo = jobs.plan(sources, given.output, given.in_place, given.changed_from, given.background, given.boxes)
    if given.report is not None:
        jobs.check_report(given.report, todo)
    names: dict[str, Any] = {"model": given.model, "detector": given.detector}
    restorer, failure = None, None
    outcomes: list[batch.Outcome] = []
    try:
        if not todo:
            raise InputError(f"No pictures in {', '.join(given.inputs)}.")
        with cli_weights.byte_bar() as progress:
            restorer = FaceRestorer.load(
                given.model,
                given.detector,
                given.models_dir,
                given.device,
                given.dtype,
                progress=progress,
                max_memory=given.max_memory,
                downloads=DownloadOptions.from_environment(given.offline, given.require_digest),
            )
            restorer.prepare(options, progress)
        if given.compile:
            restorer.record()
        _restore_all(restorer, todo, options, outcomes)
    except BaseException as error:
        failure = str(error) or type(error).__name__
        raise
    finally:
        if given.report is not None:
            files.write_bytes(given.report, batch.report(restorer, names, options, outcomes, failure).encode())
    return batch.exit_status(outcomes)


def _restore_all(
    restorer: FaceRestorer, todo: Sequence[Job], options: RestoreOptions, outcomes: list[batch.Outcome]
) -> None:
    """Fills `outcomes` one by one, so that those before an interruption are known."""
    from tqdm import tqdm

    from . import batch

    with tqdm(total=len(todo), unit="picture", file=sys.stderr, disable=None) as bar:

        def finished(outcome: batch.Outcome) -> None:
            outcomes.append(outcome)
            bar.update()
            for note in outcome.notes:
                tqdm.write(f"gpen: {outcome.job.source}: {note}", file=sys.stderr)
            if outcome.error is not None:
                tqdm.write(f"gpen: {outcome.error}", file=sys.stderr)
                log.debug("In full:", exc_info=outcome.error)

        shown = ""

        def faces_done(done: int, total: int, text: str) -> None:
            nonlocal shown
            at = f"face {done}/{total}" if total else text
            if at != shown:  # it is told many times within a face
                bar.set_postfix_str(at)
                shown = at

        batch.run(restorer, todo, options, finished, faces_done)


def _demo(given: argparse.Namespace) -> int:
    from .demo_run import run_demo

    run_demo(given.output, sys.stdout)
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from .doctor import examine

    sys.stdout.write(examine(given.models_dir) + "\n")
    return 0

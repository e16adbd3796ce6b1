"""The command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from ..errors import (
    GpenError,
    InputError,
    MissingWeights,
    OutOfMemory,
    WeightsChanged,
    describe_unexpected,
    first_line,
    is_out_of_memory,
)
from ..version import __version__
from . import compare, completion, demo, detect, doctor, environment, explain, export, report, restore, video, weights
from .command_parser import CommandParser
from .exit_status import HungUp, Terminated, exit_status
from .progress_display import add_progress_arguments
from .terminal import PrintableFormatter, print_error

OUT_OF_MEMORY_MESSAGE = (
    "There is not enough memory ({}). Close other programs, use a smaller model (gpen-bfr-512), or allow more."
)
DESCRIPTION = """Restores faces in images and videos with GPEN.

  gpen restore photo.jpg -o restored/       restore the faces in an image
  gpen video clip.mp4 -o restored.mp4       restore the faces in a video
  gpen restore --help                       list the options of a command"""
EPILOG = """exit status:
  0  success
  1  some inputs failed; the others are written
  2  wrong arguments
  3  no input could be read
  4  weights are missing or rejected
  5  out of memory
  130 interrupted, 143 ended by SIGTERM, 129 ended by SIGHUP"""
VARIABLES = """environment variables:
  GPEN_MODELS_DIR   folder of the weights, if --models-dir is not given
  GPEN_OFFLINE=1    do not download anything (HF_HUB_OFFLINE=1 does the same)
  GPEN_MIRROR       URL that is tried first for each weights file"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    An error is one message on stderr, and with `--debug` also a traceback."""
    _ensure_standard_streams()
    args = make_parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name can have characters that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=_log_level(args))
    for noisy in ("PIL", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with _signals_as_interrupts():
            _check_current_folder()
            status = int(args.command(args))
            sys.stdout.flush()  # here, because a closed pipe is handled below
            return status
    except BrokenPipeError as error:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python prints an error at exit
        return exit_status({type(error): 1})
    except (Exception, KeyboardInterrupt) as error:
        if args.debug and isinstance(error, Exception):
            traceback.print_exc()
        if is_out_of_memory(error):  # for example, while importing torch
            error = OutOfMemory(OUT_OF_MEMORY_MESSAGE.format(first_line(error) or type(error).__name__))
        print_error(environment.explain_import_error(error) or _error_message(error))
        return exit_status({type(error): 1})


def _log_level(args: argparse.Namespace) -> int:
    return logging.DEBUG if args.debug else logging.ERROR if args.quiet else logging.WARNING


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    raised = {"SIGTERM": Terminated, "SIGHUP": HungUp}

    def end(number: int, frame: FrameType | None) -> None:
        raise raised[signal.Signals(number).name]

    numbers = [getattr(signal, name) for name in raised if hasattr(signal, name)]
    before = {}
    if threading.current_thread() is threading.main_thread():
        # If the caller ignores a signal, as nohup does, it stays ignored.
        before = {n: signal.signal(n, end) for n in numbers if signal.getsignal(n) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_current_folder() -> None:
    """Raise `InputError` if there is none, because relative paths then fail, and MKL ends the process."""
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(
            f"The current folder cannot be used ({error.strerror}). It was perhaps deleted. Change to another folder."
        ) from error


def _ensure_standard_streams() -> None:
    """Open missing standard streams (`2>&-`, pythonw). Otherwise the next opened files would receive our output."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  open until the process ends


def _error_message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Ended." if isinstance(error, Terminated) else "Interrupted."
    if isinstance(error, MissingWeights):
        return f"{error} Use --models-dir for another models folder."
    if isinstance(error, WeightsChanged):
        return f"{error} To accept it: gpen models --accept-changed NAME."
    if isinstance(error, OutOfMemory):
        return f"{error} Allow more with --max-memory, or need less with a smaller --detection-size or --device cpu."
    if isinstance(error, GpenError):
        return str(error) or f"{type(error).__name__}."
    return f"{describe_unexpected(error)} Use --debug to see where it happened."


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. The default `command` of each command is its function."""
    parser = CommandParser("gpen", description=DESCRIPTION, epilog=f"{EPILOG}\n\n{VARIABLES}")
    parser.add_argument("--version", action="version", version=f"gpen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    shared = CommandParser(add_help=False)
    add_progress_arguments(shared)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    restore.add_command(commands, shared, EPILOG)
    video.add_command(commands, shared, EPILOG)
    detect.add_command(commands, shared)
    compare.add_command(commands, shared)
    explain.add_command(commands, shared)
    report.add_command(commands, shared)
    demo.add_command(commands, shared)
    weights.add_commands(commands, shared)
    export.add_command(commands, shared)
    doctor.add_command(commands, shared)
    completion.add_command(commands, shared, parser)
    return parser

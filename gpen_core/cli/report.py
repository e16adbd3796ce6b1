"""`gpen report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .terminal import print_line

DESCRIPTION = """Counts what was restored, skipped and failed in reports that gpen restore --report wrote.
An image that is in several reports counts once, by its last result.

  gpen report run.jsonl"""


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    text = "summarize reports of gpen restore"
    parser = commands.add_parser(
        "report",
        parents=[shared],
        help=text,
        description=DESCRIPTION,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="reports (.json or .jsonl), oldest first")
    parser.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    from ..batch.summary import summarize
    from .report_text import summary_lines

    for line in summary_lines(summarize(args.files)):
        print_line(line)
    return 0

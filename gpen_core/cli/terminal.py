"""What reaches a terminal: names of files, keys of checkpoints and servers' words may hold its control sequences."""

from __future__ import annotations

import argparse
import logging
import sys


def printable(text: str) -> str:
    """The text with every character that a terminal acts on, or that shows as nothing, written as an escape; lines stay."""
    return "".join(one if one in "\n\t" or one.isprintable() else ascii(one)[1:-1] for one in text)


class PrintableFormatter(logging.Formatter):
    """Log records without control sequences, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def print_summary(args: argparse.Namespace, line: str) -> None:
    """A line on stdout of what a command did, but not with `--quiet`."""
    if not args.quiet:
        sys.stdout.write(printable(f"{line}\n"))

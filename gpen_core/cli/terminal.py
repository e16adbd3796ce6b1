"""Output for terminals. File names, checkpoint keys and server messages can contain control sequences."""

from __future__ import annotations

import argparse
import logging
import sys


def printable(text: str) -> str:
    """Replace control characters and invisible characters by escapes. Newlines and tabs are kept."""
    return "".join(one if one in "\n\t" or one.isprintable() else ascii(one)[1:-1] for one in text)


class PrintableFormatter(logging.Formatter):
    """Formats log records and tracebacks without control sequences."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def print_line(line: str) -> None:
    """Print a line on stdout."""
    sys.stdout.write(printable(f"{line}\n"))


def print_error(error: object) -> None:
    """Print a message on stderr, after the name of the program."""
    sys.stderr.write(printable(f"gpen: {error}\n"))


def print_input_error(source: object, error: Exception) -> None:
    """Print the error of one input on stderr, with the input's name."""
    print_error(input_error_text(source, error))


def input_error_text(source: object, error: object) -> str:
    """Return the error of one input with the input's name."""
    return str(error) if str(source) in str(error) else f"{source}: {error}"


def print_summary(args: argparse.Namespace, line: str) -> None:
    """Print a line about the results on stdout, unless `--quiet` is set."""
    if not args.quiet:
        print_line(line)

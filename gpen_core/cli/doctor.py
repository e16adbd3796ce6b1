"""`gpen doctor`: list packages, devices and weights, and test one restoration."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import first_line
from ..weights.folders import catalog_files
from . import environment
from .arguments import add_models_dir_argument
from .report_text import bytes_text
from .terminal import print_line

EXIT_FAILED = 1


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    text = "check the installation and restore a test face"
    doctor = commands.add_parser(
        "doctor",
        parents=[shared],
        help=text,
        description="Checks packages, devices and weights, and restores a test face. Downloads nothing.",
    )
    doctor.add_argument(
        "--report",
        action="store_true",
        help="print a text for a bug report, with hardware and digests of weights, without names of your files",
    )
    add_models_dir_argument(doctor)
    doctor.set_defaults(command=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from .doctor_report import report

    passed, self_test = self_test_line()
    passed = passed and not environment.has_broken_package()
    text = (
        report(args.models_dir, self_test) if args.report else f"{format_findings(args.models_dir)}\nself-test: {self_test}"
    )
    print_line(text)
    return 0 if passed else EXIT_FAILED


def format_findings(given_models_dir: Path | None) -> str:
    """Return the findings as text, without the self-test. Downloads and changes nothing."""
    lines = [
        *environment.format_packages(),
        f"devices: {environment.format_devices()}",
        *environment.format_models_dir(given_models_dir, _weights),
        *environment.format_optional_packages(),
    ]
    return "\n".join(lines)


def self_test_line() -> tuple[bool, str]:
    """Run the self-test; return whether it passed, and its result as a line.

    If required packages are missing, the test is not run and counts as passed, because the findings list the packages."""
    try:
        from ..tools.self_test import run_self_test
    except (ImportError, OSError) as error:
        return True, f"not run: {first_line(error)}"
    result = run_self_test()
    return result.passed, result.text


def _weights(folder: Path) -> Iterator[str]:
    files, others = catalog_files(folder)
    for entry, path in files.items():
        yield f"  {entry.name:22} {_describe_file(path) if path else 'not downloaded'} ({entry.purpose})"
    for path in others:
        yield f"  {'other weights':22} {_describe_file(path)}"


def _describe_file(path: Path) -> str:
    return f"{path.name}, {bytes_text(path.stat().st_size)}"

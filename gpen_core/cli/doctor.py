"""`gpen doctor`: what is installed, which device and precision would be taken, which weights are there, does it work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import first_line
from ..weights.catalog import CATALOG
from ..weights.folders import find_in, weights_in
from . import environment
from .arguments import models_argument
from .report_text import bytes_text
from .terminal import printable

FAILED = 1


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    text = "say what is installed and what is missing, and restore one face as a test"
    doctor = commands.add_parser("doctor", parents=[shared], help=text, description=f"{text}. Nothing is downloaded.")
    doctor.add_argument(
        "--report", action="store_true", help="for a bug report: this machine and the weights' digests, too, no file's name"
    )
    models_argument(doctor)
    doctor.set_defaults(command=_doctor)


def _doctor(given: argparse.Namespace) -> int:
    from .doctor_report import report

    passed, told = tested()
    passed = passed and not environment.broken()
    text = report(given.models_dir, told) if given.report else f"{examine(given.models_dir)}\nself-test: {told}"
    sys.stdout.write(printable(text) + "\n")
    return 0 if passed else FAILED


def examine(given_models_dir: Path | None) -> str:
    """The findings as text, but for the self-test. Nothing is downloaded or changed."""
    lines = [
        *environment.versions(),
        f"devices: {environment.devices()}",
        *environment.models_folder(given_models_dir, _weights),
        *environment.optional_versions(),
    ]
    return "\n".join(lines)


def tested() -> tuple[bool, str]:
    """Whether nothing is wrong with one face restored, see `self_test`, and a line that says so.

    Without torch and the others, which the findings name, there is no test; what else is raised is what it finds."""
    try:
        from ..tools.self_test import self_test_outcome
    except (ImportError, OSError) as error:
        return True, f"not run: {first_line(error)}"
    result = self_test_outcome()
    return result.passed, result.text


def _weights(folder: Path) -> Iterator[str]:
    known = {}
    for entry in CATALOG:
        known[entry] = found = find_in(entry.name, [folder])
        yield f"  {entry.name:22} {_size(found) if found else 'not there'} ({entry.purpose})"
    for path in weights_in([folder]):
        if path not in known.values():
            yield f"  {'other weights':22} {_size(path)}"


def _size(path: Path) -> str:
    return f"{path.name}, {bytes_text(path.stat().st_size)}"

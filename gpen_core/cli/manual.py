"""`gpen manual`: the manual page, made from the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from ..version import __version__
from .described import Argument, Command, commands_of

VARIABLES = {
    "GPEN_MODELS_DIR": "the models folder, where --models-dir names none",
    "GPEN_OFFLINE": "1: download nothing, as --offline; HF_HUB_OFFLINE counts, too",
    "GPEN_MIRROR": "URL/FILE is asked first",
}


def add_command(commands: Any, shared: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's, whose manual it writes."""
    text = "write the manual page"
    how = "To read it: gpen manual | man -l -  To keep it: gpen manual > ~/.local/share/man/man1/gpen.1"
    manual = commands.add_parser(
        "manual", parents=[shared], help=text, description=f"{text} to stdout, as roff.", epilog=how
    )
    manual.set_defaults(command=lambda given: _manual(parser))


def _manual(parser: argparse.ArgumentParser) -> int:
    sys.stdout.write("\n".join(page(parser)) + "\n")
    return 0


def page(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines of gpen.1."""
    yield f'.TH GPEN 1 "" "gpen {__version__}" "User Commands"'
    yield from (".SH NAME", "gpen \\- restores faces in photographs, pictures and films with GPEN")
    yield from (".SH SYNOPSIS", "\\fBgpen\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR...]")
    yield from (".SH DESCRIPTION", _escaped(parser.description or ""))
    yield ".SH COMMANDS"
    for command in commands_of(parser):
        yield from _of_command(command)
    yield ".SH EXIT STATUS"
    yield _escaped(" ".join((parser.epilog or "").removeprefix("exit status:").split()))
    yield ".SH ENVIRONMENT"
    for name, text in VARIABLES.items():
        yield from (".TP", f".B {name}", _escaped(text))


def _of_command(command: Command) -> Iterator[str]:
    yield f".SS gpen {_escaped(command.name)}"
    yield _escaped(f"{command.help[:1].upper()}{command.help[1:]}.")
    yield from (".PP", _escaped(command.usage))
    for argument in command.arguments:
        yield from (".TP", _heading(argument), _escaped(argument.help) or "\\&")


def _heading(argument: Argument) -> str:
    value = f" \\fI{_escaped(argument.value)}\\fR" if argument.value else ""
    if not argument.flags:
        return value.strip()
    return ", ".join(f"\\fB{_escaped(flag)}\\fR" for flag in argument.flags) + value


def _escaped(text: str) -> str:
    """No line of roff's own, and hyphens that stay what they are."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain[:1] in (".", "'") else plain

"""The command line as data, from its parser: for completion, the manual page and the reference."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

FILES = ["FILE", "DIR", "PHOTO", "INPUT", "OUT", "SHEET", "MASKFILE", "IN"]
"""Words for values that are files."""


@dataclass(frozen=True)
class Argument:
    """An option or an argument by its place."""

    flags: tuple[str, ...]
    """None for what goes by its place."""
    value: str
    """A word for the value; empty for an option that has none."""
    choices: tuple[str, ...]
    help: str
    is_bare: bool
    """Whether an option's value may be left out."""

    @property
    def is_file(self) -> bool:
        return not self.choices and any(word in FILES for word in self.value.replace("|", " ").split())


@dataclass(frozen=True)
class Command:
    """One command of `gpen`."""

    name: str
    help: str
    usage: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> tuple[Argument, ...]:
        return tuple(one for one in self.arguments if one.flags)


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """Every command of the parser, in its order."""
    (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
    return [Command(name, helps[name], _usage(one), tuple(_arguments(one))) for name, one in group.choices.items()]


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join(parser.format_usage().removeprefix("usage: ").split())


def _arguments(parser: argparse.ArgumentParser) -> list[Argument]:
    return [_argument(parser, action) for action in parser._actions]


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    takes = action.nargs != 0
    choices = tuple(map(str, action.choices or ()))
    value = ("|".join(choices) or str(action.metavar or action.dest.upper())) if takes else ""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return Argument(tuple(action.option_strings), value, choices, text, action.nargs == "?")

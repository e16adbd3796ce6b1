"""The parser of the command line, with short errors and suggestions."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one message, without the usage text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        # argparse takes other values than -1 and -1.5 for options, such as -1e-3 and the box -17,29,29,91.
        self._negative_number_matcher = re.compile(r"-[\d.]")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse the arguments. An unknown command or option ends the program with a suggestion."""
        arguments = list(sys.argv[1:] if args is None else args)
        commands = self._commands()
        name = next((one for one in arguments if not one.startswith("-")), None)
        if commands and name is not None and name not in commands:
            self.error(_unknown_command_message(arguments, name, commands))
        command = commands.get(name or "", self)
        # argparse names a missing argument first, also where a misspelled option is the reason.
        known_flags = {*_flags(self), *_flags(command)}
        if misspelled := [one for one in _long_options(arguments) if one.partition("=")[0] not in known_flags]:
            command.error(_unknown_arguments_message(misspelled, command))
        known, extra = self.parse_known_args(arguments, namespace)
        if extra:
            command.error(_unknown_arguments_message(extra, command))
        return known

    def format_help(self) -> str:
        """Return the help. The usage of a command names what it needs; the options are listed below it."""
        if self.usage is None and not self._commands():
            self.usage = " ".join([self.prog, *filter(None, map(_needed_text, self._actions)), "[options]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """End the program with status 2 and one message."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"{self.prog}: {message}{end} `{self.prog} --help` lists all arguments.\n")

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        groups = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return {name: parser for group in groups for name, parser in group.choices.items()}


def _needed_text(action: argparse.Action) -> str:
    """Return an argument as the usage names it. Empty for an option that may be left out."""
    name = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    if action.option_strings:
        return f"{action.option_strings[0]} {name}" if action.required else ""
    return {"+": f"{name}...", "*": f"[{name}...]"}.get(str(action.nargs), name)


def _unknown_command_message(arguments: Sequence[str], name: str, commands: dict[str, argparse.ArgumentParser]) -> str:
    if Path(name).suffix or os.path.lexists(name):
        from ..video.containers import OUTPUT_FORMATS

        command = "video" if Path(name).suffix.lower() in {*OUTPUT_FORMATS, ".mpg"} else "restore"
        return f"{name!r} is not a command. Did you mean: gpen {command} {shlex.join(arguments)} ?"
    near = difflib.get_close_matches(name, commands, 1)
    suggestion = f"Did you mean {near[0]}?" if near else f"Commands: {', '.join(commands)}"
    return f"{name!r} is not a command. {suggestion}"


def _flags(command: argparse.ArgumentParser) -> list[str]:
    return [flag for action in command._actions for flag in action.option_strings]


def _long_options(arguments: Sequence[str]) -> list[str]:
    before_end = takewhile(lambda one: one != "--", arguments)
    return [one for one in before_end if re.match(r"--[A-Za-z]", one)]


def _unknown_arguments_message(extra: Sequence[str], command: argparse.ArgumentParser) -> str:
    flags = _flags(command)
    unknown = [one.partition("=")[0] for one in extra if one.startswith("-")] or list(extra[:1])
    if early := [name for name in unknown if name in flags]:
        return f"{' '.join(early)} must stand after `{command.prog}`."
    near = [_closest_flag(name, flags) for name in unknown]
    suggestion = f" Did you mean {' '.join(filter(None, near))}?" if any(near) else ""
    return f"unknown argument{'s' if len(unknown) > 1 else ''}: {' '.join(unknown)}.{suggestion}"


def _closest_flag(name: str, flags: Sequence[str]) -> str | None:
    """Return the flag that starts with `name`, or that is spelled like it."""
    longer = [flag for flag in flags if flag.startswith(name) and len(name) > 3]
    return next(iter([*longer, *difflib.get_close_matches(name, flags, 1, 0.7)]), None)

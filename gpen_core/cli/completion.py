"""`gpen completion`: what a shell needs to complete commands, options and their values, made from the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..options import AUTO_MODELS, DETECTORS
from ..weights.catalog import CATALOG
from .described import Argument, Command, commands_of

HOW = """  bash: gpen completion bash >> ~/.bash_completion
  zsh:  gpen completion zsh > "${fpath[1]}/_gpen"
  fish: gpen completion fish > ~/.config/fish/completions/gpen.fish"""
NETWORKS = tuple(entry.name for entry in CATALOG if entry.size)
UPSCALERS = ("lanczos", *(entry.name for entry in CATALOG if entry.scale))
NAMES = {
    "--model": (*AUTO_MODELS, *NETWORKS),
    "--models": NETWORKS,
    "--detector": DETECTORS,
    "--upscaler": UPSCALERS,
    "--trust": tuple(entry.name for entry in CATALOG),
}
"""Values that are names, where a file may stand, too."""
PLACED = {"download": tuple(entry.name for entry in CATALOG)}
"""The same for arguments by their place, by command."""


def add_command(commands: Any, shared: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's, whose completion it writes."""
    text = "write what a shell completes commands and options with"
    completion = commands.add_parser(
        "completion",
        parents=[shared],
        help=text,
        description=f"{text}, to stdout.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=tuple(SHELLS))
    completion.set_defaults(command=lambda given: _completion(given, parser))


def _completion(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    sys.stdout.write("\n".join(SHELLS[given.shell](commands_of(parser))) + "\n")
    return 0


def _named(option: Argument) -> Argument:
    """With the names that its value may be."""
    names = next((NAMES[flag] for flag in option.flags if flag in NAMES), ())
    return replace(option, choices=option.choices or names)


def _bash(commands: list[Command]) -> Iterator[str]:
    yield "# bash completion of gpen"
    yield "_gpen() {"
    yield "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words="
    yield "    COMPREPLY=()"
    yield '    if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'        words="{" ".join(one.name for one in commands)} --help --version"'
    yield "    else"
    yield '        case "${COMP_WORDS[1]} $before" in'
    for command in commands:
        for option in map(_named, command.options):
            if option.value:
                patterns = "|".join(f'"{command.name} {flag}"' for flag in option.flags)
                yield f'            {patterns}) words="{" ".join(option.choices)}" ;;'
    yield "            *)"
    yield '                case "${COMP_WORDS[1]}" in'
    for command in commands:
        flags = [flag for option in command.options for flag in option.flags]
        placed = [*PLACED.get(command.name, ()), *_choices_by_place(command)]
        yield f'                    {command.name}) words="{" ".join([*placed, *flags])}" ;;'
    yield "                esac"
    yield '                if [[ $current != -* ]]; then words=$(printf "%s\\n" $words | grep -v "^-"); fi ;;'
    yield "        esac"
    yield "    fi"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield "complete -o default -F _gpen gpen  # files where nothing else fits"


def _choices_by_place(command: Command) -> tuple[str, ...]:
    return tuple(choice for one in command.arguments if not one.flags for choice in one.choices)


def _zsh(commands: list[Command]) -> Iterator[str]:
    yield "#compdef gpen"
    yield "_gpen() {"
    yield "    local -a commands"
    yield "    commands=("
    yield from (f"        {_quoted(f'{one.name}:{one.help}')}" for one in commands)
    yield "    )"
    yield "    if (( CURRENT == 2 )); then _describe command commands; return; fi"
    yield "    local command=$words[2]"
    yield "    shift words; (( CURRENT-- ))"
    yield "    case $command in"
    for command in commands:
        yield f"        {command.name}) _arguments \\"
        for option in map(_named, command.options):
            for flag in option.flags:
                text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
                yield f"            {_quoted(f'{flag}[{text}]{_zsh_value(option)}')} \\"
        placed = (*PLACED.get(command.name, ()), *_choices_by_place(command))
        rest = f"*:name:({' '.join(placed)})" if placed else "*:file:_files"
        yield f"            {_quoted(rest)} ;;"
    yield "    esac"
    yield "}"
    yield '_gpen "$@"'


def _zsh_value(option: Argument) -> str:
    if not option.value:
        return ""
    action = f"({' '.join(option.choices)})" if option.choices else "_files" if option.is_file else " "
    return f":{option.value.replace(':', '')}:{action}"


def _fish(commands: list[Command]) -> Iterator[str]:
    yield "# fish completion of gpen"
    for command in commands:
        yield f"complete -c gpen -n __fish_use_subcommand -f -a {command.name} -d {_quoted(command.help)}"
    for command in commands:
        within = f"complete -c gpen -n '__fish_seen_subcommand_from {command.name}'"
        placed = (*PLACED.get(command.name, ()), *_choices_by_place(command))
        if placed:
            yield f"{within} -f -a {_quoted(' '.join(placed))}"
        for option in map(_named, command.options):
            names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            choices = f" -a {_quoted(' '.join(option.choices))}" if option.choices else ""
            takes = "" if not option.value else " -r" if option.is_file or option.choices else " -x"
            yield f"{within} {names}{takes}{choices} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    """For any of these shells, in single quotes."""
    return "'" + text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") + "'"


SHELLS: dict[str, Callable[[list[Command]], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}

"""`gpen completion`: what a shell needs to complete commands, options and their values, made from the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..options import AUTO_MODELS, DETECTORS
from ..weights.catalog import CATALOG
from .described import Argument, Command, commands_of

HOW = """  bash: gpen completion bash > ~/.gpen.bash; echo '. ~/.gpen.bash' >> ~/.bashrc
  zsh:  gpen completion zsh > ~/.gpen.zsh; echo '. ~/.gpen.zsh' >> ~/.zshrc    (below compinit)
  fish: mkdir -p ~/.config/fish/completions; gpen completion fish > ~/.config/fish/completions/gpen.fish

What a package or an administrator sets up: _gpen in a folder of zsh's fpath, gpen in bash-completion's
folder completions."""
NETWORKS = tuple(entry.name for entry in CATALOG if entry.size)
UPSCALERS = ("lanczos", *(entry.name for entry in CATALOG if entry.scale))
NAMES = {
    "--model": (*AUTO_MODELS, *NETWORKS),
    "--models": NETWORKS,
    "--detector": DETECTORS,
    "--upscaler": UPSCALERS,
    "--accept-changed": tuple(entry.name for entry in CATALOG),
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


@dataclass(frozen=True)
class Value:
    """What may stand after an option."""

    words: tuple[str, ...]
    is_file: bool
    """Files are offered, too."""


def _value(option: Argument) -> Value | None:
    """None where it has none, or one that may be left out: what comes next is then as likely something else."""
    names = next((NAMES[flag] for flag in option.flags if flag in NAMES), ())
    if not option.value or option.is_bare:
        return None
    return Value(option.choices or names, option.is_file or bool(names))


def _placed(command: Command) -> tuple[str, ...]:
    """What may stand without an option before it, where that is no file."""
    choices = (choice for one in command.arguments if not one.flags for choice in one.choices)
    return (*PLACED.get(command.name, ()), *choices)


def _takes_files(command: Command) -> bool:
    return any(not one.flags for one in command.arguments) and not _placed(command)


# Bash parts words at = and :, and puts what is offered in the place of the last part. Where it has no compopt, as macOS's
# bash 3.2, files are offered wherever nothing else fits.
BASH_BEGINNING = """# bash completion of gpen
_gpen() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words= files= part=
    if [ "$current" = "=" ]; then
        current=
    elif [ "$before" = "=" ]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    elif [ "$current" = ":" ] && [ "$COMP_CWORD" -gt 2 ]; then
        current= part=$before: before=${COMP_WORDS[COMP_CWORD-2]}
    elif [ "$before" = ":" ] && [ "$COMP_CWORD" -gt 3 ]; then
        before=${COMP_WORDS[COMP_CWORD-3]} part=${COMP_WORDS[COMP_CWORD-2]}:
    fi
    COMPREPLY=()"""
BASH_END = """    COMPREPLY=($(compgen -W "$words" -- "$part$current"))
    COMPREPLY=("${COMPREPLY[@]#"$part"}")
    if [ -z "$files" ]; then compopt +o default 2> /dev/null; fi
}
complete -o default -F _gpen gpen"""


def _bash(commands: list[Command]) -> Iterator[str]:
    yield BASH_BEGINNING
    yield '    if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'        words="{" ".join(one.name for one in commands)} --help --version"'
    yield "    else"
    yield '        case "${COMP_WORDS[1]} $before" in'
    for command in commands:
        yield from _bash_values(command)
    yield "            *)"
    yield '                case "${COMP_WORDS[1]}" in'
    for command in commands:
        flags = [flag for option in command.options for flag in option.flags]
        files = " files=1" if _takes_files(command) else ""
        yield f'                    {command.name}) words="{" ".join([*_placed(command), *flags])}"{files} ;;'
    yield "                esac"
    yield '                if [[ $current != -* ]]; then words=$(printf "%s\\n" $words | grep -v "^-"); fi ;;'
    yield "        esac"
    yield "    fi"
    yield BASH_END


def _bash_values(command: Command) -> Iterator[str]:
    for option in command.options:
        value = _value(option)
        if value is not None:
            patterns = "|".join(f'"{command.name} {flag}"' for flag in option.flags)
            yield f'            {patterns}) words="{" ".join(value.words)}"{" files=1" if value.is_file else ""} ;;'


ZSH_BEGINNING = """#compdef gpen
_gpen_names_and_files() {
    local -a names=("$@")
    local expl found=1
    _wanted names expl name compadd -a names && found=0
    _files && found=0
    return found
}
_gpen() {
    local -a commands
    commands=("""
ZSH_COMMANDS = """    )
    if (( CURRENT == 2 )); then _describe command commands; return; fi
    local command=$words[2]
    shift words; (( CURRENT-- ))
    case $command in"""
ZSH_END = """    esac
}
if [[ $funcstack[1] = _gpen ]]; then _gpen "$@"; else compdef _gpen gpen; fi"""


def _zsh(commands: list[Command]) -> Iterator[str]:
    yield ZSH_BEGINNING
    yield from (f"        {_quoted(f'{one.name}:{one.help}')}" for one in commands)
    yield ZSH_COMMANDS
    for command in commands:
        specs = [spec for option in command.options for spec in _zsh_option(option)]
        if _placed(command):
            specs.append(f"*:name:({' '.join(_placed(command))})")
        elif _takes_files(command):
            specs.append("*:file:_files")
        yield " \\\n            ".join([f"        {command.name}) _arguments", *map(_quoted, specs)]) + " ;;"
    yield ZSH_END


def _zsh_option(option: Argument) -> Iterator[str]:
    """A line for each of its names, which exclude each other."""
    text = _zsh_plain(option.help, "\\[]:")
    others = f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    for flag in option.flags:
        yield f"{others}{flag}[{text}]{_zsh_value(option)}"


def _zsh_value(option: Argument) -> str:
    value = _value(option)
    if value is None:
        return ""
    words = " ".join(_zsh_plain(word, ":") for word in value.words)
    action = "_files" if value.is_file else " "
    if words:  # what begins with a space is called as it stands
        action = f" _gpen_names_and_files {words}" if value.is_file else f"({words})"
    return f":{_zsh_plain(option.value, ':')}:{action}"


def _zsh_plain(text: str, special: str) -> str:
    return "".join(f"\\{letter}" if letter in special else letter for letter in text)


FISH_BEGINNING = """# fish completion of gpen
function __gpen_command
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[1]
end
function __gpen_no_command
    test (count (commandline -opc)) -eq 1
end"""


def _fish(commands: list[Command]) -> Iterator[str]:
    yield FISH_BEGINNING
    for command in commands:
        yield f"complete -c gpen -n __gpen_no_command -f -a {command.name} -d {_quoted(command.help)}"
    for command in commands:
        within = f"complete -c gpen -n '__gpen_command {command.name}'"
        if not _takes_files(command):
            yield f"{within} -f" + (f" -a {_quoted(' '.join(_placed(command)))}" if _placed(command) else "")
        for option in command.options:
            names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            yield f"{within} {names}{_fish_value(option)} -d {_quoted(option.help)}"


def _fish_value(option: Argument) -> str:
    value = _value(option)
    if value is None:
        return ""
    return (" -r" if value.is_file else " -x") + (f" -a {_quoted(' '.join(value.words))}" if value.words else "")


def _quoted(text: str) -> str:
    """For any of these shells, in single quotes."""
    return "'" + text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") + "'"


SHELLS: dict[str, Callable[[list[Command]], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}

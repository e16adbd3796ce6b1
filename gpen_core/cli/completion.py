"""`gpen completion`: print a script with which a shell completes commands, options and values. shtab generates it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..errors import MissingDependency
from ..optional_packages import not_installed
from ..options import AUTO_MODELS, DETECTORS
from ..weights.catalog import CATALOG

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
HOW = """  bash: gpen completion bash > ~/.gpen.bash; echo '. ~/.gpen.bash' >> ~/.bashrc
  zsh:  mkdir -p ~/.zfunc; gpen completion zsh > ~/.zfunc/_gpen
        and in ~/.zshrc, above compinit: fpath=(~/.zfunc $fpath)
  fish: mkdir -p ~/.config/fish/completions; gpen completion fish > ~/.config/fish/completions/gpen.fish
  tcsh: gpen completion tcsh > ~/.gpen.tcsh; echo 'source ~/.gpen.tcsh' >> ~/.tcshrc
  PowerShell: gpen completion powershell >> $PROFILE
"""
NETWORKS = tuple(entry.name for entry in CATALOG if entry.size)
NAMES_OR_FILES = {
    "model": (*AUTO_MODELS, *NETWORKS),
    "models": NETWORKS,
    "detector": DETECTORS,
    "upscaler": ("lanczos", *(entry.name for entry in CATALOG if entry.scale)),
}
"""Arguments whose values are names or files, keyed by `dest`."""
NAMES = dict.fromkeys(("names", "accept_changed"), tuple(entry.name for entry in CATALOG))
"""Arguments whose values are names only."""
FILES = {"FILE", "PHOTO", "INPUT", "OUT", "SHEET", "MASKFILE", "IN"}
"""Metavars of files, or of files and folders."""
ZSH = """_gpen_names_or_files() {
  local -a names=("$@")
  local expl found=1
  _wanted names expl name compadd -a names && found=0
  _files && found=0
  return found
}"""


def add_command(commands: Any, shared: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    """Add the command to `parser`, for which it prints the script."""
    text = "print a shell completion script"
    completion = commands.add_parser(
        "completion",
        parents=[shared],
        help=text,
        description="Prints a shell completion script (needs shtab).",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=SHELLS, help="shell that you use")
    completion.set_defaults(command=lambda args: _completion(args, parser))


def _completion(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        import shtab
    except ImportError as error:
        raise MissingDependency(not_installed("shtab")) from error
    _mark_values(parser, shtab)
    sys.stdout.write(shtab.complete(parser, args.shell) + "\n")
    return 0


def _mark_values(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Add the possible values to each argument. The parser cannot parse arguments afterwards."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_values(command, shtab)
            continue
        if action.option_strings and action.nargs == "?":
            action.nargs = 0  # the value is optional: zsh would use the next option as the value
        complete = None
        if action.dest in NAMES_OR_FILES:
            action.choices = NAMES_OR_FILES[action.dest]
            complete = _names_or_files(action.dest, action.choices, shtab)
        elif action.dest in NAMES:
            action.choices = NAMES[action.dest]
        elif action.metavar in FILES:
            complete = shtab.FILE
        elif action.metavar == "DIR":
            complete = shtab.DIRECTORY
        if complete is not None:
            action.complete = complete  # type: ignore[attr-defined]


def _names_or_files(dest: str, names: tuple[str, ...], shtab: Any) -> dict[str, Any]:
    """Return the value of `complete` for shtab. tcsh cannot offer both, and PowerShell reads the names from `choices`."""
    words = " ".join(names)
    function = f"_gpen_{dest}_files"  # because of this name, bash adds a slash to a folder's name
    return {
        "bash": function,
        "zsh": " _gpen_names_or_files " + words.replace(":", r"\:"),  # the leading space keeps shtab from changing it
        "fish": f"{words} {shtab.FILE['fish']}",
        "tcsh": f"({words})",
        "powershell": shtab.FILE["powershell"],
        "preamble": {"bash": f'{function}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}', "zsh": ZSH},
    }

"""Completion and the manual page: made from the parser, and taken by the shells that are here."""

import re
import shutil
import subprocess

import pytest

from gpen_core.cli.described import commands_of
from gpen_core.cli.main import make_parser
from gpen_core.version import __version__

pytest_plugins = ["command_line"]

BASH = shutil.which("bash")


@pytest.fixture
def complete(gpen):
    """What bash offers for a line whose last word is being typed."""
    if BASH is None:
        pytest.skip("no bash here")
    script = gpen("completion", "bash").out

    def run(*words):
        typed = " ".join(f"'{word}'" for word in ("gpen", *words))
        asked = f'{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _gpen; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run([BASH, "--norc", "-c", asked], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == ""
        return done.stdout.split()

    return run


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("res",), ["restore"]),
        (("co",), ["compare", "convert", "completion"]),
        (("restore", "--mask-type", ""), ["auto", "feather", "parse"]),
        (("restore", "--mask-type", "p"), ["parse"]),
        (("restore", "photo.jpg", "--model", "gpen-bfr-5"), ["gpen-bfr-512"]),
        (("detect", "--stren"), []),
        (("restore", "--skip"), ["--skip-existing"]),
        (("video", "--st"), ["--strength", "--start"]),
        (("restore", "--output", ""), []),  # then bash offers files
        (("restore", ""), []),
        (("download", "parse"), ["parsenet"]),
        (("completion", "z"), ["zsh"]),
        (("doctor", "--rep"), ["--report"]),
    ],
)
def test_bash_offers_what_the_parser_takes(complete, words, offered):
    assert sorted(complete(*words)) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_each_shells(gpen, shell):
    script = gpen("completion", shell).out
    for command in commands_of(make_parser()):
        assert command.name in script
        for option in command.options:
            for flag in option.flags:
                assert (flag if shell != "fish" else flag.lstrip("-")) in script
    if shutil.which(shell):
        arguments = ["-n", "/dev/stdin"] if shell != "fish" else ["--no-execute", "/dev/stdin"]
        assert subprocess.run([shell, *arguments], input=script, text=True, capture_output=True).stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_no_help_ends_a_quotation(gpen, shell):
    for line in gpen("completion", shell).out.splitlines():
        assert line.count("'") % 2 == 0, line


def test_the_manual_names_everything(gpen):
    page = gpen("manual").out
    assert page.startswith(f'.TH GPEN 1 "" "gpen {__version__}"')
    for command in commands_of(make_parser()):
        assert f".SS gpen {command.name}\n" in page
        for option in command.options:
            assert all(f"\\fB{flag.replace('-', chr(92) + '-')}\\fR" in page for flag in option.flags)
    for section in ("EXIT STATUS", "ENVIRONMENT", "SYNOPSIS"):
        assert f".SH {section}\n" in page
    assert "out of memory on every fallback" in page


def test_roff_takes_the_manual_without_a_warning(gpen):
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here")
    done = subprocess.run([groff, "-man", "-ww", "-Tascii"], input=gpen("manual").out, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "--skip-existing" in re.sub(r".\x08|\x1b\[\d*m", "", done.stdout)  # letters struck over, or escapes

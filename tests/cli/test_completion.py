"""Completion scripts: made from the parser, and accepted by the shells that are here."""

import shutil
import subprocess
import sys

import pytest
from reference_pages import commands_of, flags_of

from gpen_core.cli.completion import SHELLS
from gpen_core.cli.main import make_parser

pytest_plugins = ["cli_fixtures"]

BASH = shutil.which("bash")


@pytest.fixture
def complete(gpen):
    """What bash offers for a line whose last word is being typed."""
    if BASH is None:
        pytest.skip("no bash here")
    pytest.importorskip("shtab")
    script = gpen("completion", "bash").out

    def run(*words):
        typed = " ".join(f"'{word}'" for word in ("gpen", *words))
        asked = f'{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _shtab_gpen; printf "%s\\n" "${{COMPREPLY[@]}}"'
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
        (("compare", "photo.jpg", "--models", "gpen-bfr-5"), ["gpen-bfr-512"]),
        (("restore", "--upscaler", "lan"), ["lanczos"]),
        (("restore", "--detector", "retinaface_m"), ["retinaface_mobile0.25"]),
        (("models", "--accept-changed", "parse"), ["parsenet"]),
        (("detect", "--stren"), []),
        (("restore", "--skip"), ["--skip-existing"]),
        (("video", "--st"), ["--strength", "--start"]),
        (("download", "parse"), ["parsenet"]),
        (("completion", "z"), ["zsh"]),
        (("doctor", "--rep"), ["--report"]),
    ],
)
def test_bash_offers_what_the_parser_takes(complete, words, offered):
    assert sorted(complete(*words)) == sorted(offered)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_each_shells(gpen, shell):
    pytest.importorskip("shtab")
    script = gpen("completion", shell).out
    for name, _, command in commands_of(make_parser()):
        assert name in script
        for flag in flags_of(command):
            assert flag.lstrip("-") in script
    if shutil.which(shell) and shell != "powershell":
        arguments = ["--no-execute" if shell == "fish" else "-n", "/dev/stdin"]
        done = subprocess.run([shell, *arguments], input=script, text=True, capture_output=True)
        assert done.returncode == 0 and done.stderr == ""


def test_without_shtab_it_says_what_to_install(gpen, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    ran = gpen("completion", "bash")
    assert ran.status == 1 and ran.out == "" and "pip install shtab" in ran.err


def test_a_shell_that_shtab_does_not_know_is_a_usage_error(gpen):
    ran = gpen("completion", "elvish")
    assert ran.status == 2 and "powershell" in ran.err


def test_shtab_knows_all_these_shells():
    assert set(SHELLS) <= set(pytest.importorskip("shtab").SUPPORTED_SHELLS)

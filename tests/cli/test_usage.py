"""What the command line says of itself, and of arguments that it does not know."""

import pytest
from reference_pages import commands_of, flags_of

from gpen_core.cli.main import make_parser
from gpen_core.options import RestoreOptions, VideoOptions, declared_options

pytest_plugins = ["cli_fixtures"]


@pytest.mark.parametrize(("command", "kinds"), [("restore", (RestoreOptions,)), ("video", (RestoreOptions, VideoOptions))])
def test_every_declared_option_is_an_argument(command, kinds):
    flags = {name: flags_of(parser) for name, _, parser in commands_of(make_parser())}[command]
    declared = {f"--{option.flag}" for kind in kinds for option in declared_options(kind, "cli")}
    missing = {"--order", "--upscale", "--upscaler"} if command == "video" else set()
    assert declared - flags == missing


def test_help_has_an_example_groups_ranges_and_defaults(gpen):
    text = " ".join(gpen("restore", "--help").out.split())
    assert text.startswith("usage: gpen restore INPUT... (-o OUT | --in-place) [options] Detects the faces")
    for part in (
        "gpen restore photo.jpg -o restored/",
        "input and output:",
        "which faces:",
        "how restored faces look:",
        "(0 to 1; default: 1)",
        "(64 to 8192 px; default: 2000)",
        "(default: reading)",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("restore", "a.png", "-o", "r", "--strenght", "0.5"), "unknown argument: --strenght. Did you mean --strength?"),
        (("restore", "a.png", "-o", "r", "--min-face=3"), "unknown argument: --min-face. Did you mean --min-face-size?"),
        (("video", "a.mp4", "-o", "b.mp4", "--qwerty"), "unknown argument: --qwerty."),
        (("photo.jpg", "-o", "r/"), "'photo.jpg' is not a command. Did you mean: gpen restore photo.jpg -o r/ ?"),
        (("clip.MP4", "-o", "b.mp4"), "Did you mean: gpen video clip.MP4 -o b.mp4 ?"),
        (("my photo.jpg", "-o", "r"), "Did you mean: gpen restore 'my photo.jpg' -o r ?"),
        (("restor", "a.png"), "'restor' is not a command. Did you mean restore?"),
        (("polish", "a"), "Commands: restore, video, detect"),
        (("p" * 300,), "is not a command. Commands: restore, video, detect"),
        (("restore", "a.png"), "--in-place is required."),
        (("restore", "a.png", "--ouput", "r"), "unknown argument: --ouput. Did you mean --output?"),
        (("--debug", "models"), "--debug must stand after `gpen models`."),
        (("--verison",), "unknown argument: --verison. Did you mean --version?"),
    ],
)
def test_an_error_is_one_line_that_says_what_was_meant(gpen, arguments, said):
    ran = gpen(*arguments)
    assert ran.status == 2 and ran.out == "" and said in ran.err
    assert ran.err.count("\n") == 1 and "usage:" not in ran.err and "--help` lists all arguments." in ran.err


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("detect", "INPUT... [options] Lists the faces"),
        ("compare", "PHOTO -o SHEET [options] Restores"),
        ("download", "[NAME...] [options] Downloads"),
        ("models", "[options] Prints"),
        ("export", "NAME|FILE -o FILE.onnx [options] Writes"),
        ("completion", "bash|zsh|fish|tcsh|powershell [options] Prints"),
    ],
)
def test_the_help_of_a_command_begins_with_what_it_needs(gpen, command, usage):
    text = " ".join(gpen(command, "--help").out.split())
    assert text.startswith(f"usage: gpen {command} {usage}")

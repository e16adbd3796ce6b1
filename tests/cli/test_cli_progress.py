"""What commands show while they work: a bar with the time left on terminals, JSON where it is asked for, or nothing."""

import argparse
import json
import logging
import re
import sys
from pathlib import Path
from typing import get_args

import pytest
from cli_fixtures import write_broken_png
from reference_pages import commands_of, flags_of
from tqdm import tqdm

from gpen_core import ProgressEvent
from gpen_core.cli import progress_display
from gpen_core.cli.main import make_parser
from gpen_core.cli.progress_display import JsonReporter, ProgressReporter, TqdmReporter, progress_reporter
from gpen_core.cli.videos_time_left import VideosTimeLeft
from gpen_core.progress import ProgressStage, ProgressUnit

pytest_plugins = ["cli_fixtures"]


def given(kind=None, quiet=False):
    return argparse.Namespace(progress=kind, quiet=quiet)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only as the test says."""
    now = [100.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now[0])
    return now


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


class EagerBar(tqdm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, mininterval=0, miniters=1, **kwargs)


@pytest.fixture
def terminal(monkeypatch):
    """Makes a terminal of stderr, when called: pytest has one of its own for each phase of a test. Bars are drawn at every
    step, however soon it comes."""
    monkeypatch.setattr("tqdm.tqdm", EagerBar)
    return lambda: monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


@pytest.mark.parametrize(
    ("kind", "quiet", "expected"),
    [
        (None, False, TqdmReporter),
        (None, True, ProgressReporter),
        ("json", True, JsonReporter),
        ("bar", True, TqdmReporter),
        ("none", False, ProgressReporter),
    ],
)
def test_quiet_shows_nothing_unless_it_is_asked_for(kind, quiet, expected):
    with progress_reporter(given(kind, quiet)) as show:
        assert type(show) is expected and show.quiet is quiet


def test_json_says_how_far_and_how_long_it_will_take(capsys, clock):
    with progress_reporter(given("json")) as show:
        show(ProgressEvent("download", 0, None, "byte", "weights.pth: Waiting for the server"))
        for seconds, done in ((0, 0), (0.1, 5), (1, 25), (3, 100)):
            clock[0] = 100 + seconds
            show(ProgressEvent("download", done, 100, "byte", "weights.pth"))
        show(ProgressEvent("load", 0, None, "model", "Loading weights.pth"))
    told = objects(capsys.readouterr().err)
    assert [(one["done"], one["total"], one["seconds_left"]) for one in told] == [
        (0, None, None),
        (0, 100, None),
        (25, 100, 3.0),  # 5 came too soon after 0
        (100, 100, 0.0),
        (0, None, None),
    ]
    texts = ["weights.pth: Waiting for the server", "weights.pth", "weights.pth", "weights.pth", "Loading weights.pth"]
    assert [one["text"] for one in told] == texts
    assert [(one["stage"], one["unit"]) for one in told] == [("download", "byte")] * 4 + [("load", "model")]


def test_json_counts_images_beside_what_is_done_to_each(capsys, clock):
    with progress_reporter(given("json"), 2) as show:
        for picture in (1, 2):
            for face in (0, 1, 2):
                clock[0] += 1
                show(ProgressEvent("restore", face, 2, "face", "Restoring faces"))
            show.step(picture)
    told = objects(capsys.readouterr().err)
    pictures = [(one["done"], one["seconds_left"]) for one in told if one["stage"] == "batch"]
    faces = [(one["done"], one["seconds_left"]) for one in told if one["stage"] == "restore"]
    assert pictures == [(0, None), (1, 3.0), (2, 0.0)]
    assert faces == [(0, None), (1, 1.0), (2, 0.0)] * 2  # each image begins anew
    assert {(one["stage"], one["unit"]) for one in told} == {("batch", "image"), ("restore", "face")}


def test_a_terminal_shows_the_time_left(terminal, capsys):
    terminal()
    with progress_reporter(given()) as show:
        show(ProgressEvent("restore", 0, 8, "face", "Restoring faces"))
        show(ProgressEvent("restore", 2, 8, "face", "Restoring faces"))
    err = capsys.readouterr().err
    assert "Restoring faces" in err and "2/8" in err and "<" in err.split("2/8")[1] and " face" in err.split("2/8")[1]


def test_the_time_of_both_passes_replaces_that_of_one(terminal, capsys):
    terminal()
    with progress_reporter(given()) as show:
        show(ProgressEvent("analyze", 1, 800, "frame", "Looking for faces"))
        show(ProgressEvent("analyze", 2, 800, "frame", "Looking for faces", 1500.0))
    before, last = capsys.readouterr().err.split("2/800")
    assert "<" in before and "about 25 min left in all" in last and "<" not in last


def test_json_has_the_time_of_both_passes_in_whole_seconds(capsys):
    with progress_reporter(given("json")) as show:
        show(ProgressEvent("analyze", 2, 800, "frame", "Looking for faces", 1500.4))
    (line,) = objects(capsys.readouterr().err)
    assert (line["seconds_left"], line["total_seconds_left"]) == (None, 1500)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0, "less than a minute left in all"),
        (95, "about 2 min left in all"),
        (59 * 60, "about 59 min left in all"),
        (60 * 60, "about 1 h left in all"),
        (63 * 60, "about 1 h 5 min left in all"),
        (119 * 60, "about 2 h left in all"),
        (14.6 * 3600, "about 15 h left in all"),
    ],
)
def test_a_time_left_has_no_more_precision_than_it_can(seconds, text):
    assert ProgressEvent("analyze", 1, 2, "frame", "", seconds).time_left == text


def video_event(left):
    return ProgressEvent("restore", 1, 2, "frame", "", left)


def test_the_next_videos_are_expected_to_take_as_long_per_frame():
    now, told = [0.0], []
    left = VideosTimeLeft({"a": 100, "b": 300, "c": 50}, clock=lambda: now[0])
    progress = left.start("a", told.append)
    progress(video_event(None))  # nothing is known yet
    now[0] = 20.0
    progress(video_event(30.0))  # a takes 50 s for 100 frames
    progress(ProgressEvent("join", 1, 100, "frame", ""))
    left.finish(100, 60.0)
    progress = left.start("b", told.append)
    now[0] += 40.0
    progress(video_event(None))  # as a was: 0.6 s per frame
    progress(video_event(100.0))  # b takes 140 s for 300 frames
    left.start("c", told.append)(video_event(7.0))  # the last
    assert [event.total_seconds_left for event in told] == [
        None,
        30 + 350 * 0.5,
        None,
        pytest.approx(300 * 0.6 - 40 + 50 * 0.6),
        pytest.approx(100 + 50 * 200 / 400),
        7.0,
    ]


def test_a_video_of_unknown_length_leaves_the_time_of_all_unknown():
    told = []
    left = VideosTimeLeft({"a": 100, "b": None})
    left.start("a", told.append)(video_event(30.0))
    left.start("b", told.append)(video_event(40.0))  # the last one knows its own
    assert [event.total_seconds_left for event in told] == [None, 40.0]


def test_only_bytes_are_shown_in_powers_of_1024(terminal, capsys):
    terminal()
    with progress_reporter(given()) as show:
        show(ProgressEvent("read", 3 << 20, 9 << 20, "byte", "Reading the video"))
        show(ProgressEvent("restore", 3 << 20, 9 << 20, "frame", "Restoring frames"))
    bytes_, frames = capsys.readouterr().err.split("Restoring frames", 1)
    assert "3.00M/9.00M" in bytes_ and f"{3 << 20}/{9 << 20}" in frames


def test_of_several_images_one_bar_shows_where_each_is(terminal, capsys):
    terminal()
    with progress_reporter(given(), 3) as show:
        show(ProgressEvent("download", 3_000_000, 75_000_000, "byte", "Downloading"))
        show(ProgressEvent("restore", 1, 4, "face", "Restoring faces"))
        show.step(2)
        show.note("a note")
    err = capsys.readouterr().err
    assert "2/3" in err and "Downloading 3/75 MB" in err and "Restoring faces 1/4" in err and "gpen: a note" in err


def test_what_work_says_of_itself_cannot_speak_to_the_terminal(terminal, capsys):
    terminal()
    with progress_reporter(given()) as show:
        show(ProgressEvent("restore", 1, 4, "face", "x\x1b[2Jy"))
        show.note("n\x1b[2J")
    assert "\x1b[2J" not in capsys.readouterr().err


def test_where_no_terminal_is_nothing_is_drawn(capsys):
    with progress_reporter(given(), 3) as show:
        show(ProgressEvent("restore", 1, 4, "face", "Restoring faces"))
        show.step(1)
    assert capsys.readouterr().err == ""


def test_the_page_for_programs_lists_each_stage_with_its_unit_and_each_field(capsys):
    page = (Path(__file__).parents[2] / "docs" / "automation.md").read_text("utf-8")
    fields, stages = re.findall(r"\| --- \|\n((?:\| .*\n)+)", page)
    units = {re.findall(r"`(\w+)`", row)[0]: set(re.findall(r"`(\w+)`", row)[1:]) for row in stages.splitlines()}
    assert list(units) == list(get_args(ProgressStage)) and set().union(*units.values()) == set(get_args(ProgressUnit))
    with progress_reporter(given("json"), 1):
        pass
    (line,) = objects(capsys.readouterr().err)
    assert [re.findall(r"`(\w+)`", row)[0] for row in fields.splitlines()] == list(line)


def test_restore_in_json(restore, face, plain, tmp_path):
    ran = restore(face, plain, "-o", tmp_path / "out", "--progress", "json")
    told = objects(ran.err)
    assert ran.status == 0 and told[-1]["stage"] == "batch" and (told[-1]["done"], told[-1]["total"]) == (2, 2)
    assert {tuple(one) for one in told} == {("stage", "done", "total", "unit", "text", "seconds_left", "total_seconds_left")}
    assert {one["total_seconds_left"] for one in told} == {None}
    units = {"load": "model", "detect": "image", "restore": "face", "batch": "image"}
    assert {(one["stage"], one["unit"]) for one in told} == set(units.items())
    assert any(one["stage"] == "restore" and one["done"] == 1 for one in told)


@pytest.mark.slow
def test_quiet_says_errors_and_nothing_else(restore, face, tmp_path, terminal):
    terminal()
    ran = restore(face, "-o", tmp_path / "out.png", "-q", "--boxes", "0,0,9,9")
    assert ran.status == 0 and ran.err == "" and ran.out == ""
    assert "no face was found in box 0" in restore(face, "-o", tmp_path / "out.png", "--boxes", "0,0,9,9").err
    ran = restore(write_broken_png(tmp_path / "no.png"), "-o", tmp_path / "out.png", "-q")
    assert ran.status == 3 and "no.png" in ran.err and len(ran.err.splitlines()) == 1


def test_every_command_has_both():
    for name, _, command in commands_of(make_parser()):
        assert {"-q", "--progress"} <= flags_of(command), name


def test_quiet_leaves_warnings_out(gpen, monkeypatch):
    levels = []
    monkeypatch.setattr(logging, "basicConfig", lambda **given: levels.append(given["level"]))
    for flags in (("-q",), (), ("-q", "--debug")):
        assert gpen("models", *flags).status == 0
    assert levels == [logging.ERROR, logging.WARNING, logging.DEBUG]

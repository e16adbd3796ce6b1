"""What the command line refuses, with which message and exit status, and what it leaves behind."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_fixtures import DETECTOR, file_names, write_broken_png
from PIL import Image

from gpen_core import FaceRestorer, Interrupted, cli
from gpen_core.cli.terminal import PrintableFormatter
from gpen_core.network import GPEN

pytest_plugins = ["cli_fixtures"]

# Usage: status 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--strength", "1.5"),
        ("--strength", "nan"),
        ("--strength", "much"),
        ("--faces", "biggest"),
        ("--faces", ""),
        ("--faces", "0;2"),
        ("--faces=-1",),
        ("--order", "random"),
        ("--min-face-size", "-1"),
        ("--min-face-size", "inf"),
        ("--max-faces", "-1"),
        ("--max-faces", "1.5"),
        ("--confidence", "1.1"),
        ("--detection-size", "0"),
        ("--template", "arcface"),
        ("--mask-type", "none"),
        ("--color", "yes"),
        ("--dtype", "int8"),
        *(("--max-memory", value) for value in ("0", "-5", "lots", "inf", "nan", "4GB", "G", "")),
    ],
    ids=" ".join,
)
def test_a_bad_value_is_refused_by_name_before_anything_is_loaded(gpen, face, tmp_path, arguments):
    ran = gpen("restore", face, "-o", tmp_path / "out.png", "--models-dir", tmp_path / "none", *arguments)
    assert ran.status == 2
    option = arguments[0].partition("=")[0].removeprefix("--")
    assert option.replace("-", "_") in ran.err.replace("-", "_")
    assert file_names(tmp_path) == ["face.png"]


@pytest.mark.parametrize("arguments", [(), ("--in-place", "-o", "out.png")])
def test_exactly_one_of_output_and_in_place(gpen, face, arguments):
    ran = gpen("restore", face, *arguments)
    assert ran.status == 2
    assert "--in-place" in ran.err


@pytest.mark.parametrize("arguments", [(), ("restore",), ("restore", "-o", "x.png"), ("polish", "x.png")])
def test_an_incomplete_command_is_usage(gpen, arguments):
    assert gpen(*arguments).status == 2


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("restore", "--help")])
def test_help_and_version_go_to_stdout(gpen, arguments):
    ran = gpen(*arguments)
    assert (ran.status, ran.err) == (0, "")
    assert "gpen" in ran.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("face.png", "-o", "out.gif"), r"\.gif cannot be written"),
        (("face.png", "-o", "out.xyz"), r"\.xyz cannot be written"),
        (("face.png", "plain.png", "-o", "out.png"), "is one file, but there are 2 images"),
        (("face.png", "other/face.png", "-o", "out"), "would both become"),
        (("face.png", "-o", "face.png"), "is an input"),
        (("face.png", "-o", "other/../face.png"), "is an input"),
        (("face.png", "plain.png", "-o", "."), "is an input"),
        (("", "-o", "out"), "empty name"),
        (("face.png", "-o", "out.png", "--report", "face.png"), "report"),
        (("face.png", "-o", "out.png", "--report", "out.png"), "report"),
        (("face.png", "-o", "out.png", "--report", "other"), "report"),
    ],
)
def test_a_target_that_cannot_be_is_refused_and_nothing_is_written(
    restore, face, plain, tmp_path, monkeypatch, arguments, why
):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other" / "face.png").write_bytes(before := face.read_bytes())
    ran = restore(*arguments)
    assert ran.status == 2
    assert re.search(why, ran.err)
    assert file_names(tmp_path) == ["face.png", "other", "plain.png"]
    assert face.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--device", "nonsense"), "nonsense"), (("--device", "meta"), "meta"), (("--dtype", "fp16"), "bf16")],
)
def test_a_device_or_precision_that_is_not_there_is_usage(restore, face, tmp_path, arguments, named):
    ran = restore(face, "-o", tmp_path / "out.png", *arguments)
    assert ran.status == 2
    assert named in ran.err
    assert file_names(tmp_path) == ["face.png"]


# Some or no inputs: status 1 and 3


def test_a_broken_input_among_good_ones(restore, face, plain, tmp_path):
    write_broken_png(tmp_path / "broken.png")
    ran = restore(face, tmp_path / "broken.png", tmp_path / "missing.png", plain, "-o", tmp_path / "out")
    assert ran.status == 1
    assert file_names(tmp_path / "out") == ["face.png", "plain.png"]
    assert len(ran.err.strip().splitlines()) == 2
    assert "broken.png" in ran.err
    assert "missing.png" in ran.err


def test_nothing_but_broken_and_missing_inputs(restore, tmp_path):
    (tmp_path / "folder").mkdir()
    arguments = (
        write_broken_png(tmp_path / "broken.png"),
        tmp_path / "missing.png",
        tmp_path / "*.tiff",
        tmp_path / ("x" * 5000),
    )
    ran = restore(*arguments, "-o", tmp_path / "out")
    assert ran.status == 3
    assert all(argument.name in ran.err for argument in arguments)
    assert not (tmp_path / "out").exists()


def test_an_empty_folder(restore, tmp_path):
    report = tmp_path.parent / f"{tmp_path.name}.json"
    ran = restore(tmp_path, "-o", tmp_path / "out", "--report", report)
    assert ran.status == 3
    assert str(tmp_path) in ran.err
    assert json.loads(report.read_text())["inputs"] == []
    assert file_names(tmp_path) == []


# Weights: status 4


def assert_refused(ran, folder, *what):
    assert ran.status == 4
    for one in what:
        assert str(one) in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (folder / "out.png").exists()


def test_all_that_is_missing_is_named_with_its_folder(gpen, face, tmp_path):
    ran = gpen("restore", face, "-o", tmp_path / "out.png", "--models-dir", tmp_path / "models")
    assert ran.status == 4 and not (tmp_path / "out.png").exists()
    first, *files = ran.err.strip().splitlines()
    assert first.startswith("gpen: 2 files are missing, 395 MB in total") and len(files) == 2
    for name, line in zip(("GPEN-BFR-2048.pth", "detection_Resnet50_Final.pth"), files):
        assert name in line and str(tmp_path / "models") in line


def test_a_missing_detector_is_named_with_its_folder(gpen, models, face, tmp_path):
    ran = gpen("restore", face, "-o", tmp_path / "out.png", "--models-dir", models, "--model", "red-256")
    assert_refused(ran, tmp_path, "detection_Resnet50_Final.pth", models)


def test_a_missing_parser_is_named_with_its_folder(restore, models, face, tmp_path):
    report = tmp_path / "report.json"
    ran = restore(face, "-o", tmp_path / "out.png", "--mask-type", "parse", "--report", report)
    assert_refused(ran, tmp_path, "parsing_parsenet.pth", models)
    told = json.loads(report.read_text())
    assert "parsing_parsenet.pth" in told["error"]
    assert told["size"] == 256


def not_finite(path, source):
    sd = torch.load(source, weights_only=True)
    sd["final_linear.0.bias"][3] = torch.nan
    torch.save(sd, path)


SPOILT = {
    "truncated": lambda path, good: path.write_bytes(good.read_bytes()[:100_000]),
    "text": lambda path, good: path.write_text("404: not found"),
    "empty": lambda path, good: path.write_bytes(b""),
    "not finite": not_finite,
    "a list": lambda path, good: torch.save([torch.ones(3)], path),
    "a detector": lambda path, good: path.write_bytes((good.parent / DETECTOR).read_bytes()),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_model_that_is_none_is_refused_by_its_path(restore, models, face, tmp_path, kind):
    model = tmp_path / "spoiled.pth"
    SPOILT[kind](model, models / "red-256.pth")
    assert_refused(restore(face, "-o", tmp_path / "out.png", model=model), tmp_path, model)


@pytest.mark.parametrize("kind", ["text", "a network"])
def test_a_detector_that_is_none_is_refused_by_its_path(restore, models, face, tmp_path, kind):
    detector = models / "red-256.pth" if kind == "a network" else tmp_path / "text.pth"
    if kind == "text":
        detector.write_text("404: not found")
    assert_refused(restore(face, "-o", tmp_path / "out.png", "--detector", detector), tmp_path, detector)


class Executes:
    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


@pytest.mark.parametrize("option", ["--model", "--detector"])
def test_a_pickle_that_would_act_is_refused_and_does_not(restore, face, tmp_path, option):
    torch.save({"params": Executes(tmp_path / "canary")}, tmp_path / "evil.pth")
    ran = restore(face, "-o", tmp_path / "out.png", option, tmp_path / "evil.pth")
    assert_refused(ran, tmp_path, tmp_path / "evil.pth")
    assert file_names(tmp_path) == ["evil.pth", "face.png"]


# Memory: status 5


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
@pytest.mark.slow
def test_out_of_memory_on_every_fallback(restore, face, plain, tmp_path, monkeypatch, error):
    def forward(self, x, on_tick, strip_bytes):
        raise error

    monkeypatch.setattr(GPEN, "forward", forward)
    ran = restore(face, plain, "-o", tmp_path / "out")
    assert ran.status == 5
    assert str(face) in ran.err
    assert file_names(tmp_path / "out") == ["plain.png"]


def test_too_small_a_memory_budget_names_both_amounts(restore, face, tmp_path):
    ran = restore(face, "-o", tmp_path / "out.png", "--max-memory", "10M")
    assert ran.status == 5
    needed, given = (float(number) for number in re.findall(r"([\d.]+) MiB", ran.err))
    assert (given, needed > 10) == (10, True)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("text", "number"),
    [("9000000", 9_000_000), ("9000K", 9000 * 2**10), ("20m", 20 * 2**20), ("1.5G", 3 * 2**29), ("1e9", 10**9)],
)
def test_memory_may_be_given_with_a_unit(restore, plain, tmp_path, monkeypatch, text, number):
    asked = []

    def restore_all(*args, max_memory, **kwargs):
        asked.append(max_memory)
        raise Interrupted("enough")

    monkeypatch.setattr(FaceRestorer, "restore_batch", restore_all)
    restore(plain, "-o", tmp_path / "out.png", "--max-memory", text)
    assert asked == [number]


# Interruptions: status 130


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("stopped"), Interrupted()])
@pytest.mark.parametrize("in_place", [False, True])
def test_an_interruption_keeps_what_is_done_and_leaves_nothing_half_written(
    restore, face, plain, tmp_path, monkeypatch, error, in_place
):
    before = face.read_bytes()
    whole = FaceRestorer.restore_batch

    def restore_one(self, frames, *args, **kwargs):
        if frames[0].image.width == 256:
            raise error
        return whole(self, frames, *args, **kwargs)

    monkeypatch.setattr(FaceRestorer, "restore_batch", restore_one)
    report, out = tmp_path.parent / f"{tmp_path.name}.json", tmp_path / "out"
    ran = restore(plain, face, "--report", report, *(["--in-place"] if in_place else ["-o", out]))
    assert ran.status == 130
    assert re.search("gpen: [A-Za-z]", ran.err)
    assert face.read_bytes() == before
    assert file_names(tmp_path) == ["face.png", *([] if in_place else ["out"]), "plain.png"]
    assert in_place or file_names(out) == ["plain.png"]
    told = json.loads(report.read_text())
    assert [one["status"] for one in told["inputs"]] == ["unchanged"]
    assert told["error"]


# Errors that nobody expected


def fail(*args, **kwargs):
    raise ZeroDivisionError("a bug\nwith a second line")


def test_an_unexpected_error_is_one_line(restore, face, tmp_path, monkeypatch):
    monkeypatch.setattr(FaceRestorer, "restore_batch", fail)
    ran = restore(face, "-o", tmp_path / "out.png")
    assert ran.status == 1
    (line,) = ran.err.strip().splitlines()
    assert "ZeroDivisionError: a bug" in line
    assert "--debug" in line
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("error", [ZeroDivisionError, RuntimeError])
def test_debug_shows_where_an_error_comes_from(restore, face, tmp_path, monkeypatch, caplog, error):
    """Of one image's in the log, of one that ends the run on stderr."""

    def fail(*args, **kwargs):
        raise error("a bug")

    caplog.set_level("DEBUG")
    monkeypatch.setattr(FaceRestorer, "restore_batch", fail)
    ran = restore(face, "-o", tmp_path / "out.png", "--debug")
    assert ran.status == 1
    assert "Traceback" in caplog.text + ran.err
    assert "in fail" in caplog.text + ran.err


def test_debug_keeps_the_exit_status(restore, face, tmp_path):
    ran = restore(face, "-o", tmp_path / "out.png", "--debug", model="no-such-model")
    assert ran.status == 4
    assert "Traceback" in ran.err
    assert ran.err.strip().splitlines()[-1].startswith("gpen: ")


@pytest.mark.skipif(os.name != "posix", reason="the current folder cannot be deleted")
def test_a_current_folder_that_was_deleted_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["restore", "a.png", "-o", str(tmp_path / "out.png")]) == 3
    assert capsys.readouterr().err.startswith("gpen: The current folder cannot be used (No such file")


# Streams and signals of a process of its own

PROGRAM = [sys.executable, "-m", "gpen_core"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(os.name != "posix", reason="a shell's redirections")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
@pytest.mark.slow
def test_without_streams_it_works_and_says_nothing_into_files(face, models, tmp_path, closed):
    named = f"--model red-256 --detector retinaface_mobile0.25 --models-dir {models} --device cpu"
    command = (
        f"{sys.executable} -m gpen_core restore {face} -o {tmp_path}/out.png --report {tmp_path}/r.json {named} {closed}"
    )
    assert subprocess.run(command, shell=True, cwd=ROOT).returncode == 0
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))["inputs"][0]["status"] == "restored"
    assert Image.open(tmp_path / "out.png").size == (256, 256)


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipes")
@pytest.mark.slow
def test_a_reader_that_has_had_enough_is_no_error(models):
    command = f"({sys.executable} -m gpen_core models --models-dir {models}; echo $? >&2) | head -0"
    ran = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert ran.stderr.strip() in ("0", "141")  # head may have read nothing before or after all was written


@pytest.mark.skipif(os.name != "posix", reason="there are no such signals")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
@pytest.mark.slow
def test_a_signal_leaves_whole_files_and_a_report(face, models, tmp_path, interruptible, name, status):
    (tmp_path / "many").mkdir()
    for n in range(400):
        shutil.copy(face, tmp_path / "many" / f"{n:03}.png")
    named = ("--model", "red-256", "--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu")
    out, report = tmp_path / "out", tmp_path / "report.json"
    ran = subprocess.Popen(
        [*PROGRAM, "restore", tmp_path / "many", "-o", out, "--report", report, *named],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(out.glob("*.png")) if out.exists() else []) < 3:
        assert ran.poll() is None
        time.sleep(0.02)
    ran.send_signal(getattr(signal, name))
    said = ran.communicate(timeout=60)[1]
    assert ran.returncode == status and "Traceback" not in said
    told = json.loads(report.read_text("utf-8"))
    done = {entry["input"] for entry in told["inputs"] if entry["status"] == "restored"}
    assert 3 <= len(done) < 400 and told["error"]
    assert sorted(path.name for path in out.iterdir()) == sorted(Path(one).name for one in done)
    for path in out.iterdir():
        Image.open(path).load()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names cannot hold such")
def test_names_cannot_speak_to_the_terminal(gpen, tmp_path, caplog):
    name = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202e.png"
    write_broken_png(tmp_path / name)
    ran = gpen("restore", tmp_path / name, "-o", tmp_path / "out.png", "--models-dir", tmp_path, "--offline")
    assert ran.status != 0
    assert all(one.isprintable() or one == "\n" for one in ran.err)
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s is odd", (name,), None)
    assert PrintableFormatter("%(message)s").format(record) == r"a\x1b]0;title\x07\x1b[2J\x9b31m\u202e.png is odd"

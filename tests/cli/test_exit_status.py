"""The exit status: one table of errors, and the same failure of every command that has inputs."""

import os
import shutil
import signal

import pytest
from cli_fixtures import DETECTOR, write_broken_png

from gpen_core.cli.exit_status import ExitStatus, HungUp, Terminated, exit_status
from gpen_core.errors import (
    DeviceError,
    ImageTooLarge,
    InputError,
    Interrupted,
    MissingDependency,
    MissingWeights,
    OptionsError,
    OutOfMemory,
    OutputError,
)
from gpen_core.faces.detection.retinaface import Detector

pytest_plugins = ["cli_fixtures"]


@pytest.mark.parametrize(
    ("errors", "inputs", "status"),
    [
        ({}, 1, 0),
        ({}, 0, 3),
        ({InputError: 1}, 1, 3),
        ({InputError: 2}, 2, 3),
        ({InputError: 1, ImageTooLarge: 1}, 2, 3),
        ({InputError: 1}, 2, 1),
        ({OutputError: 1}, 1, 1),
        ({OutputError: 1}, 2, 1),
        ({InputError: 1, OutputError: 1}, 2, 1),
        ({ValueError: 1}, 1, 1),
        ({MissingDependency: 1}, 1, 1),
        ({OptionsError: 1}, 1, 2),
        ({DeviceError: 1}, 1, 2),
        ({MissingWeights: 1}, 3, 4),
        ({OutOfMemory: 1}, 1, 5),
        ({OutOfMemory: 1}, 2, 5),
        ({OutOfMemory: 1, InputError: 1}, 2, 5),
        ({KeyboardInterrupt: 1}, 1, 130),
        ({Interrupted: 1}, 1, 130),
        ({Terminated: 1}, 1, 143),
        ({HungUp: 1}, 1, 129),
        ({BrokenPipeError: 1}, 1, 141),
    ],
)
def test_the_status_follows_from_the_types_of_the_errors(errors, inputs, status):
    assert exit_status(errors, inputs) == ExitStatus(status)


COMMANDS = ("restore", "detect", "video", "compare", "explain")
NETWORK = {"compare": "--models", "restore": "--model", "video": "--model", "explain": "--model"}


@pytest.fixture(params=COMMANDS)
def command(request, gpen, models, tmp_path):
    """Runs one command on one input. Its output is `out`, or `where`, in a folder of its own."""
    name = request.param

    def run(source, *arguments, where=tmp_path / "written"):
        target = where / {"detect": "", "explain": "", "video": "frames"}.get(name, "out.png")
        network = (NETWORK[name], "red-256") if name in NETWORK else ()
        detector = () if "--detector" in arguments else ("--detector", "retinaface_mobile0.25")
        common = ("--models-dir", models, "--device", "cpu", "--offline", *detector)
        return gpen(name, source, "-o", target, *network, *common, *arguments)

    run.name = name
    return run


@pytest.fixture
def source(command, face, tmp_path):
    """An image with a face; for a video, a folder with this one frame."""
    if command.name != "video":
        return face
    (tmp_path / "shots").mkdir()
    return face.rename(tmp_path / "shots" / "0001.png").parent


@pytest.mark.slow
def test_success_is_0(command, source):
    assert command(source).status == 0


@pytest.mark.parametrize("arguments", [("--confidence", "2"), ("--detect-size", "much"), ("--device", "cuda:77")])
@pytest.mark.slow
def test_a_wrong_option_or_device_is_2(command, source, arguments):
    assert command(source, *arguments).status == 2


@pytest.mark.slow
def test_an_input_that_would_be_overwritten_is_2(command, source, tmp_path):
    taken = {"explain": tmp_path / "5-result.png", "video": source}.get(command.name, tmp_path / "out.png")
    where = source.parent if command.name == "video" else tmp_path
    given = source.rename(where / ("frames" if command.name == "video" else taken.name))
    assert command(given, where=where).status == 2


@pytest.mark.parametrize("kind", ["missing", "broken", "empty folder", "empty file"])
@pytest.mark.slow
def test_no_readable_input_is_3(command, tmp_path, kind):
    path = tmp_path / ("in.mkv" if command.name == "video" else "in.png")
    if kind == "broken":
        write_broken_png(path)
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "empty file":
        path.touch()
    assert command(path).status == 3


@pytest.mark.slow
def test_missing_weights_are_4(command, source, tmp_path):
    assert command(source, "--models-dir", tmp_path / "none").status == 4


@pytest.mark.slow
def test_refused_weights_are_4(command, source, models, tmp_path):
    refused = tmp_path / "detection_mobilenet0.25_Final.pth"
    refused.write_bytes((models / DETECTOR).read_bytes()[:1000])
    assert command(source, "--detector", refused).status == 4


def fail_with(monkeypatch, error):
    def detect(*arguments, **more):
        raise error

    monkeypatch.setattr(Detector, "detect", detect)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError("a bug"), 1),
        (RuntimeError("a bug"), 1),
        (MemoryError(), 5),
        (RuntimeError("CUDA error: out of memory"), 5),
        (OutOfMemory("not enough"), 5),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
@pytest.mark.slow
def test_an_error_while_it_works_has_one_status(command, source, monkeypatch, error, status):
    fail_with(monkeypatch, error)
    assert command(source).status == status


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_1(command, source, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"a file where a folder should be")
    assert command(source, where=blocked / "folder").status == 1


@pytest.mark.skipif(os.name != "posix", reason="there are no such signals")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
@pytest.mark.slow
def test_a_signal_has_128_and_its_number(command, source, monkeypatch, interruptible, name, status):
    whole = Detector.detect

    def detect(*arguments, **more):
        os.kill(os.getpid(), getattr(signal, name))
        return whole(*arguments, **more)

    monkeypatch.setattr(Detector, "detect", detect)
    assert command(source).status == status


@pytest.mark.parametrize("command", ["restore", "detect"], indirect=True)
@pytest.mark.parametrize(("error", "status"), [(None, 1), (MemoryError(), 5)])
@pytest.mark.slow
def test_some_of_several_inputs(command, source, tmp_path, monkeypatch, error, status):
    folder = tmp_path / "several"
    folder.mkdir()
    shutil.copy(source, folder / "good.png")
    write_broken_png(folder / "bad.png")
    if error is not None:
        fail_with(monkeypatch, error)
    where = tmp_path / "written"
    where.mkdir()
    ran = command(folder, where=where) if command.name == "detect" else command(folder, "-o", where)
    assert ran.status == status and "bad.png" in ran.err

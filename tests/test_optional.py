"""A package whose functions have changed is named, with the versions that work."""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from gpen_core.cli import main
from gpen_core.errors import UnsupportedPackage
from gpen_core.faces.mask import Parser
from gpen_core.optional import PACKAGES, install_command
from gpen_core.video import containers
from gpen_core.video.probe import probe


def change(monkeypatch, owner, name, error):
    def changed(*args, **named):
        raise error

    monkeypatch.setattr(owner, name, changed)


@pytest.fixture
def newer_av(monkeypatch):
    """A PyAV that nobody has tested, of which `open` has lost an argument."""
    change(monkeypatch, containers.library(), "open", TypeError("open() got an unexpected keyword argument 'timeout'"))
    monkeypatch.setattr(metadata, "version", lambda name: "20.1.0")


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"anything")
    return path


def test_a_changed_function_names_the_package_and_the_versions_that_work(newer_av, video):
    with pytest.raises(
        UnsupportedPackage,
        match=r'^PyAV 20\.1\.0 is not supported \(open\(\) got .* \'timeout\'\)\. .*pip install "av>=14\.2,<20"$',
    ):
        probe(video)


def test_the_command_says_it_in_one_sentence(newer_av, video, capsys):
    assert main(["video", str(video), "-o", str(video.with_name("b.mp4"))]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gpen: PyAV 20.1.0 is not supported") and "Unexpected" not in said and "report it" not in said


def test_with_a_tested_version_the_error_is_ours(monkeypatch, video):
    change(monkeypatch, containers.library(), "open", TypeError("a mistake of ours"))
    with pytest.raises(TypeError, match="a mistake of ours"):
        probe(video)


@pytest.mark.parametrize(
    ("python", "pip", "command"),
    [
        ("/usr/bin/python3", "pip", "/usr/bin/python3 -m pip install tqdm"),
        ("C:\\My Programs\\python.exe", "pip", '"C:\\My Programs\\python.exe" -m pip install tqdm'),
        ("/venv/bin/python", None, "uv pip install --python /venv/bin/python tqdm"),
    ],
)
def test_the_command_that_installs_is_for_the_python_that_runs(monkeypatch, python, pip, command):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: pip)
    assert install_command("tqdm") == command


def test_facexlib_is_installed_without_its_dependencies():
    assert install_command("facexlib").endswith(" -m pip install --no-deps facexlib")


def test_facexlib_is_named(monkeypatch):
    from facexlib.parsing import parsenet

    change(monkeypatch, parsenet, "ParseNet", TypeError("no argument in_size"))
    monkeypatch.setattr(metadata, "version", lambda name: "0.9")
    with pytest.raises(UnsupportedPackage, match=r"facexlib 0\.9 is not supported"):
        Parser.from_state_dict({"out_mask_conv.conv2d.weight": torch.zeros(1)}, torch.device("cpu"))


@pytest.mark.parametrize("name", PACKAGES)
def test_the_minimum_is_what_the_project_requires(name):
    required = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert re.search(rf'"{name}(\[\w+\])?>={re.escape(PACKAGES[name].minimum)}[",]', required)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return
    assert int(version.split(".")[0]) <= int(PACKAGES[name].below.split(".")[0])

import platform
import re
import sys

import cv2
import pytest
import torch

from gpen_core import cli, devices
from gpen_core.cli import doctor
from gpen_core.version import __version__
from gpen_core.weights.catalog import CATALOG


@pytest.fixture
def examine(capsys):
    """`gpen doctor`: what it prints."""

    def run(folder):
        assert cli.main(["doctor", "--models-dir", str(folder)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


def line_of(text, start):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line.strip()


def test_versions_are_those_that_are_running(examine, tmp_path):
    text = examine(tmp_path)
    first = text.splitlines()[0]
    assert __version__ in first
    assert platform.python_version() in first
    assert line_of(text, "torch ").split()[-1] in torch.__version__
    assert line_of(text, "opencv-python").split()[-1].startswith(cv2.__version__.split("-")[0])
    for package in doctor.PACKAGES:
        assert re.search(r" \d+\.\d+", line_of(text, f"{package} "))
    for package in doctor.EXTRAS:
        assert re.search(r" (\d+\.\d+|not installed)", line_of(text, f"{package} "))


@pytest.mark.parametrize(
    ("cuda", "mps", "line"),
    [
        (0, False, "devices: cpu; auto takes cpu in fp32"),
        (2, False, "devices: cuda:0, cuda:1, cpu; auto takes cuda:0 in fp16"),
        (0, True, "devices: mps, cpu; auto takes mps in fp32"),
    ],
)
def test_the_devices_and_what_auto_takes(examine, tmp_path, monkeypatch, cuda, mps, line):
    monkeypatch.setattr(devices, "cpu_computes_in_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert line_of(examine(tmp_path), "devices") == line


def test_present_and_missing_weights(examine, tmp_path):
    (tmp_path / "gpen-bfr-512.PTH").write_bytes(bytes(1234))
    (tmp_path / "pytorch_model-2048.pt").write_bytes(bytes(5))
    text = examine(tmp_path)
    assert line_of(text, "models folder") == f"models folder: {tmp_path}"
    assert "gpen-bfr-512.PTH, 1,234 bytes" in line_of(text, "gpen-bfr-512")
    assert "pytorch_model-2048.pt, 5 bytes" in line_of(text, "gpen-bfr-2048")
    missing = [entry.name for entry in CATALOG if "not there" in line_of(text, f"{entry.name} ")]
    assert missing == [entry.name for entry in CATALOG if entry.name not in ("gpen-bfr-512", "gpen-bfr-2048")]


def test_weights_under_other_names_are_listed_too(examine, tmp_path):
    (tmp_path / "my-own.safetensors").write_bytes(bytes(2048))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.pth").mkdir()
    text = examine(tmp_path)
    assert line_of(text, "other weights") == "other weights          my-own.safetensors, 2,048 bytes"
    assert "notes.txt" not in text


@pytest.mark.parametrize(("make", "said"), [(None, "does not exist yet"), ("file", "is not a folder")])
def test_a_folder_that_is_not_there_is_said_and_not_made(examine, tmp_path, make, said):
    folder = tmp_path / "models"
    if make:
        folder.write_text("x")
    text = examine(folder)
    assert line_of(text, "models folder") == f"models folder: {folder} ({said})"
    assert text.count("not there") == len(CATALOG)
    assert folder.exists() == bool(make)


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ("torch", ImportError("No module named 'torch'")),
        ("opencv-python", ImportError("libGL.so.1: cannot open shared file")),
    ],
)
def test_a_package_that_cannot_be_imported_is_said(examine, tmp_path, monkeypatch, package, error):
    whole = doctor.import_module

    def broken(name):
        if name == doctor.PACKAGES[package]:
            raise error
        return whole(name)

    monkeypatch.setattr(doctor, "import_module", broken)
    text = examine(tmp_path)
    assert f"cannot be imported: {error}" in line_of(text, f"{package} ")
    assert text.count("cannot be imported") == 1


def test_it_works_without_torch(examine, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpen_core.devices", None)
    assert line_of(examine(tmp_path), "devices") == "devices: unknown without torch"


@pytest.mark.parametrize("package", ["numpy", "basicsr"])
def test_a_package_that_is_not_installed_is_said(examine, tmp_path, monkeypatch, package):
    monkeypatch.setattr(doctor.metadata, "distributions", lambda name: [])
    said = "not installed" if package in doctor.EXTRAS else "MISSING"
    assert said in line_of(examine(tmp_path), f"{package} ")

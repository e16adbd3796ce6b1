"""The benchmarks that need a GPU, tried on the CPU: they must run when a GPU is there for a few minutes."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


PATCHED = re.compile(r'mock\.patch\("([\w.]+)\.(\w+)"')


def test_what_benchmarks_replace_is_there():
    found = {one for path in FOLDER.glob("*.py") for one in PATCHED.findall(path.read_text(encoding="utf-8"))}
    assert found and all(hasattr(importlib.import_module(module), name) for module, name in found)


@pytest.mark.slow
def test_frames_of_a_video_are_counted(tmp_path):
    small = ["--sizes", "256", "--dtypes", "fp32", "--frame", "160", "96", "--frames", "2", "--runs", "1"]
    call = [sys.executable, FOLDER / "gpu_video.py", "--device", "cpu", *small, "--json", tmp_path / "rows.json"]
    lines = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(lines) == 1 + len(rows) == 10 and all("/s" in line for line in lines[1:])
    for one in ("first pass", "second pass"):
        for way in ("OpenCV", "device", "async"):
            assert any(row["what"].startswith(one) and row["what"].endswith(way) and row["seconds"] > 0 for row in rows)


def session(*arguments):
    call = [sys.executable, FOLDER / "gpu_session.py", *arguments]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_session_on_a_gpu_has_all_that_is_to_be_known_there_in_its_order(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("GPEN_COMFYUI_DIR", str(tmp_path))
    steps = list(importlib.import_module("gpu_session").steps(tmp_path, False))
    names = ["changed", "network", "video", "photograph", "tests", "whole", "tf32", "fp32", "comfyui"]
    assert [step.name for step in steps] == names
    for step in steps:
        script = next((Path(part) for part in step.command if part.endswith(".py")), None)
        assert script is None or (Path(FOLDER.parent) / script).exists()


@pytest.mark.slow
def test_a_session_runs_its_steps_and_ends_in_time(tmp_path):
    lines = session("--out", tmp_path, "--trial", "--only", "changed", "network")
    done = json.loads((tmp_path / "session.json").read_text())
    assert [(one["name"], one["status"]) for one in done] == [("changed", 0), ("network", 0)] and len(lines) == 2
    assert "test_on_a_gpu" in (tmp_path / "changed.log").read_text()
    assert json.loads((tmp_path / "network.json").read_text())
    session("--out", tmp_path, "--trial", "--only", "network", "whole", "--minutes", "0.005")
    assert [one["status"] for one in json.loads((tmp_path / "session.json").read_text())] == [None]

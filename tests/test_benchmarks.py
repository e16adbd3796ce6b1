"""The benchmarks that need a GPU, tried on the CPU: they must run when a GPU is there for a few minutes."""

import importlib
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
def test_frames_of_a_video_are_counted():
    small = ["--sizes", "256", "--dtypes", "fp32", "--frame", "160", "96", "--frames", "4", "--runs", "1"]
    call = [sys.executable, FOLDER / "gpu_video.py", "--device", "cpu", *small]
    lines = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == 3 and all("frames/s" in line for line in lines[1:])

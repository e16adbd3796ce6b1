"""Adds to a host what it lacks, and changes nothing that it has. Run by A1111 at each start and by ComfyUI-Manager.

Every package is installed without its dependencies. Hosts have what the used part of facexlib needs, and pip would otherwise
replace numpy and OpenCV. Only the standard library is used here, nothing is raised, and a run that has nothing to do takes a
fraction of a second.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys

FACEXLIB = "facexlib>=0.3.0"
PLATFORMDIRS = "platformdirs>=3.0"
OPENCV_FOR_NUMPY_1 = "opencv-python-headless>=4.8,<4.12"
OPENCV = "opencv-python-headless>=4.10,<5"


def main() -> None:
    """Installs what is missing, or says what to do by hand."""
    if "--skip-install" in [*sys.argv, *os.environ.get("COMMANDLINE_ARGS", "").split()]:
        return
    for package in missing_packages():
        problem = install(package)
        if problem:
            print(f"sd-gpen: {package} could not be installed ({problem}). In the host's environment, run:")
            print(f"  {sys.executable} -m pip install --no-deps '{package}'")


def missing_packages() -> list[str]:
    """What is to be installed, for pip. OpenCV may be there and still not load, so it is tried."""
    packages = [one for one in (FACEXLIB, PLATFORMDIRS) if not importlib.util.find_spec(one.partition(">=")[0])]
    try:
        importlib.import_module("cv2")
    except ImportError:
        packages.append(OPENCV_FOR_NUMPY_1 if numpy_major() < 2 else OPENCV)
    return packages


def numpy_major() -> int:
    """2 where numpy is not there: the host will then install a new one."""
    try:
        return int(importlib.import_module("numpy").__version__.split(".")[0])
    except ImportError:
        return 2


def install(package: str) -> str | None:
    """Installs without dependencies, by pip or, where an environment has none, by uv. What went wrong, if anything."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps"]
    if importlib.util.find_spec("pip") is None:
        uv = find_uv()
        if uv is None:
            return "there is neither pip nor uv"
        command = [*uv, "pip", "install", "--python", sys.executable, "--no-deps"]
    try:
        done = subprocess.run([*command, package], capture_output=True, text=True, errors="replace")
    except OSError as error:
        return str(error)
    lines = done.stderr.strip().splitlines() or ["no reason given"]
    return lines[-1] if done.returncode else None


def find_uv() -> list[str] | None:
    """The command that runs uv. A portable ComfyUI has it as a module of its Python only."""
    if program := shutil.which("uv"):
        return [program]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else None


if __name__ == "__main__":
    main()

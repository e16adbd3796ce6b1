"""Install missing packages into a host. A1111 runs this at each start, ComfyUI-Manager on installation.

Packages are installed without dependencies, because pip would otherwise replace the host's numpy and OpenCV. The host has
the dependencies of the used parts of facexlib. This script uses only the standard library and raises no errors. If
nothing is missing, it takes a fraction of a second.
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
    """Install the missing packages. If that fails, print the command to run by hand."""
    if "--skip-install" in [*sys.argv, *os.environ.get("COMMANDLINE_ARGS", "").split()]:
        return
    for package in missing_packages():
        problem = install(package)
        if problem:
            print(f"sd-gpen: {package} could not be installed ({problem}). In the host's environment, run:")
            print(f"  {sys.executable} -m pip install --no-deps '{package}'")


def missing_packages() -> list[str]:
    """Return the pip requirements of missing packages. OpenCV is imported, because an installed one may fail to load."""
    packages = [one for one in (FACEXLIB, PLATFORMDIRS) if not importlib.util.find_spec(one.partition(">=")[0])]
    try:
        importlib.import_module("cv2")
    except ImportError:
        packages.append(OPENCV_FOR_NUMPY_1 if numpy_major() < 2 else OPENCV)
    return packages


def numpy_major() -> int:
    """Return numpy's major version, or 2 if numpy is missing, because the host will then install a new one."""
    try:
        return int(importlib.import_module("numpy").__version__.split(".")[0])
    except ImportError:
        return 2


def install(package: str) -> str | None:
    """Install a package without dependencies, with pip or, if that is missing, uv. Returns the error, or None on success."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps"]
    if importlib.util.find_spec("pip") is None:
        uv = find_uv()
        if uv is None:
            return "neither pip nor uv is installed"
        command = [*uv, "pip", "install", "--python", sys.executable, "--no-deps"]
    try:
        done = subprocess.run([*command, package], capture_output=True, text=True, errors="replace")
    except OSError as error:
        return str(error)
    lines = done.stderr.strip().splitlines() or ["no reason given"]
    return lines[-1] if done.returncode else None


def find_uv() -> list[str] | None:
    """Return the command that runs uv, or None. A portable ComfyUI has uv only as a module of its Python."""
    if program := shutil.which("uv"):
        return [program]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else None


if __name__ == "__main__":
    main()

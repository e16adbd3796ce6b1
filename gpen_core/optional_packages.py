"""Optional packages, and packages whose API changes between versions."""

from __future__ import annotations

import re
import sys
from functools import partial
from importlib import metadata
from typing import NamedTuple

from .errors import ErrorConverter, MissingDependency, UnsupportedPackage, first_line


class Package(NamedTuple):
    """A package and its tested versions."""

    title: str
    """The name as its authors spell it."""
    minimum: str
    below: str
    """The first version that was not tested."""


PACKAGES = {
    "av": Package("PyAV", "14.2", "20"),
    "facexlib": Package("facexlib", "0.3.0", "0.4"),
    "fsspec": Package("fsspec", "2023.1", "2027"),
    "pillow-heif": Package("pillow-heif", "0.16", "2"),
    "ray": Package("Ray", "2.51", "2.64"),
    "spandrel": Package("spandrel", "0.3", "0.5"),
}
"""Keyed by the name on PyPI."""


PURPOSES = {
    "facexlib": "parses faces",
    "onnx": "writes ONNX files",
    "onnxruntime": "runs ONNX files",
    "platformdirs": "finds the default models folder",
}
"""Purposes of packages that not every command needs and whose names do not explain them."""
WITHOUT_DEPENDENCIES = ("facexlib",)
"""Packages to install with `--no-deps`: the used parts of facexlib import only packages that this project requires."""


def require(name: str) -> None:
    """Raise `MissingDependency`, with the command to install it, if one of `PURPOSES` is not installed."""
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise MissingDependency(not_installed(name))


def not_installed(package: str) -> str:
    """Return the message for a missing package: its purpose and the command to install it."""
    purpose = f", which {PURPOSES[package]}," if package in PURPOSES else ""
    return f"The package {package}{purpose} is not installed. Install it: {install_command(package)}"


def install_command(package: str, *options: str) -> str:
    """Return the command that installs packages for the running Python, with uv if pip is missing."""
    alone = ["--no-deps"] if package in WITHOUT_DEPENDENCIES else []
    return _pip_command("install", *options, *alone, package)


def uninstall_command(package: str) -> str:
    """Return the command that removes a package from the running Python."""
    return _pip_command("uninstall", package)


def _pip_command(action: str, *arguments: str) -> str:
    from importlib.util import find_spec

    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable or "python"
    pip = f"{python} -m pip {action}" if find_spec("pip") else f"uv pip {action} --python {python}"
    return " ".join([pip, *arguments])


def version_guard(name: str) -> ErrorConverter:
    """Guard calls of one of `PACKAGES` against API changes.

    If the installed version is not a tested one, a `TypeError` or `AttributeError` becomes `UnsupportedPackage`. With a
    tested version the error is a bug of ours and is not changed."""
    return ErrorConverter(partial(_unsupported_error, name))


def torchvision_problem(error: BaseException) -> str | None:
    """Return the message for the error of a torchvision that was built for another torch, else None."""
    if not isinstance(error, RuntimeError) or "torchvision::" not in str(error):
        return None
    torchvision, torch = metadata.version("torchvision"), metadata.version("torch")
    return (
        f"torchvision {torchvision} does not fit torch {torch} ({first_line(error)}). Install the one that "
        "https://pytorch.org/get-started/previous-versions/ lists with this torch."
    )


def _unsupported_error(name: str, error: Exception) -> UnsupportedPackage | None:
    package, version = PACKAGES[name], None
    problem = torchvision_problem(error)
    if problem is not None:
        return UnsupportedPackage(problem)
    if isinstance(error, (AttributeError, TypeError)):
        version = _untested_version(name, package)
    if version is None:
        return None
    return UnsupportedPackage(
        f"{package.title} {version} is not supported ({first_line(error)}). Install another version: "
        f'pip install "{name}>={package.minimum},<{package.below}"'
    )


def _untested_version(name: str, package: Package) -> str | None:
    """Return the installed version if it is not a tested one, else None."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    is_tested = parse_version(package.minimum) <= parse_version(version) < parse_version(package.below)
    return None if is_tested else version


def parse_version(version: str) -> tuple[int, ...]:
    """Return the numbers of a release for comparison, without a local part such as `+cu121`."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))

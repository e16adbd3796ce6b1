"""Packages that may be missing, or whose functions change between versions."""

from __future__ import annotations

import re
import sys
from functools import partial
from importlib import metadata
from typing import NamedTuple

from .errors import ErrorConverter, MissingDependency, UnsupportedPackage, first_line


class Package(NamedTuple):
    """The versions of a package that were tested."""

    title: str
    """As its authors write it."""
    minimum: str
    below: str
    """The first version that was not tested."""


PACKAGES = {
    "av": Package("PyAV", "14.2", "20"),
    "facexlib": Package("facexlib", "0.3.0", "0.4"),
    "fsspec": Package("fsspec", "2023.1", "2027"),
    "ray": Package("Ray", "2.51", "2.64"),
    "spandrel": Package("spandrel", "0.3", "0.5"),
}
"""By the name that pip installs."""


PURPOSES = {
    "facexlib": "finds and parses faces",
    "platformdirs": "finds the default models folder",
}
"""What a package is for, where its name does not say it and not every command needs it."""
WITHOUT_DEPENDENCIES = ("facexlib",)
"""Installed without their dependencies: what is used of facexlib needs only packages that this project requires, too."""


def require(name: str) -> None:
    """Raises `MissingDependency`, with the command that installs it, where one of `PURPOSES` is not installed."""
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise MissingDependency(not_installed(name))


def not_installed(package: str) -> str:
    """The message for a package that is not installed: what it is for, and the command that installs it."""
    purpose = f", which {PURPOSES[package]}," if package in PURPOSES else ""
    return f"The package {package}{purpose} is not installed. Install it: {install_command(package)}"


def install_command(package: str, *options: str) -> str:
    """The command that installs a package for the running Python. Where pip is missing it is uv's."""
    from importlib.util import find_spec

    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable or "python"
    pip = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    alone = ["--no-deps"] if package in WITHOUT_DEPENDENCIES else []
    return " ".join([pip, *options, *alone, package])


def version_guard(name: str) -> ErrorConverter:
    """Calls of one of `PACKAGES`. If the installed version was not tested, a `TypeError` or `AttributeError` becomes
    `UnsupportedPackage`: its functions have changed. With a tested version the error is ours and stays."""
    return ErrorConverter(partial(_unsupported_error, name))


def _unsupported_error(name: str, error: Exception) -> UnsupportedPackage | None:
    package, version = PACKAGES[name], None
    if isinstance(error, (AttributeError, TypeError)):
        version = _untested_version(name, package)
    if version is None:
        return None
    return UnsupportedPackage(
        f"{package.title} {version} is not supported ({first_line(error)}). Install another version: "
        f'pip install "{name}>={package.minimum},<{package.below}"'
    )


def _untested_version(name: str, package: Package) -> str | None:
    """The installed version if it was not tested."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    is_tested = parse_version(package.minimum) <= parse_version(version) < parse_version(package.below)
    return None if is_tested else version


def parse_version(version: str) -> tuple[int, ...]:
    """A release's numbers, which sort as releases do; without a local part, such as CUDA's in `2.1.2+cu121`."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))

"""Packages whose functions change between versions, and the versions that this project was tested with."""

from __future__ import annotations

import re
from functools import partial
from importlib import metadata
from typing import NamedTuple

from .errors import ErrorConverter, UnsupportedPackage, first_line


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


def calls_of(name: str) -> ErrorConverter:
    """Calls of one of `PACKAGES`. If the installed version was not tested, a `TypeError` or `AttributeError` becomes
    `UnsupportedPackage`: its functions have changed. With a tested version the error is ours and stays."""
    return ErrorConverter(partial(_unsupported, name))


def _unsupported(name: str, error: Exception) -> UnsupportedPackage | None:
    package, version = PACKAGES[name], None
    if isinstance(error, (AttributeError, TypeError)):
        version = _untested(name, package)
    if version is None:
        return None
    return UnsupportedPackage(
        f"{package.title} {version} is not supported ({first_line(error)}). Install another version: "
        f'pip install "{name}>={package.minimum},<{package.below}"'
    )


def _untested(name: str, package: Package) -> str | None:
    """The installed version if it was not tested."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    is_tested = version_numbers(package.minimum) <= version_numbers(version) < version_numbers(package.below)
    return None if is_tested else version


def version_numbers(version: str) -> tuple[int, ...]:
    """A release's numbers, which sort as releases do; without a local part, such as CUDA's in `2.1.2+cu121`."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))

"""Packages whose functions change between versions, and the versions that this project was tested with."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from .errors import UnsupportedPackage, first_line


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


@contextlib.contextmanager
def calls_of(name: str) -> Iterator[None]:
    """Calls of one of `PACKAGES`. If the installed version was not tested, a `TypeError` or `AttributeError` becomes
    `UnsupportedPackage`: its functions have changed. With a tested version the error is ours and stays."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        package = PACKAGES[name]
        version = _untested(name, package)
        if version is None:
            raise
        raise UnsupportedPackage(
            f"{package.title} {version} is not supported ({first_line(error)}). Install another version: "
            f'pip install "{name}>={package.minimum},<{package.below}"'
        ) from error


def _untested(name: str, package: Package) -> str | None:
    """The installed version if it was not tested."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    is_tested = _numbers(package.minimum) <= _numbers(version) < _numbers(package.below)
    return None if is_tested else version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])

"""Packages, devices and the models folder, as `gpen doctor` and its report print them."""

from __future__ import annotations

import ast
import platform
import re
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

from ..errors import MissingDependency, first_line
from ..files.path_checks import exists, is_folder
from ..optional_packages import (
    PURPOSES,
    WITHOUT_DEPENDENCIES,
    install_command,
    not_installed,
    parse_version,
    torchvision_problem,
    uninstall_command,
)
from ..version import __version__
from ..weights.folders import models_dirs
from ..weights.onnx_runtime import RUNTIME, RUNTIME_PACKAGES

PROJECT = "sd-gpen"
ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "facexlib": "facexlib.parsing.parsenet",
    "opencv-python": "cv2",
    "Pillow": "PIL.Image",
    "scipy": "scipy.optimize",
}
"""The module to import, for packages whose module has another name or does not load its C library by itself."""
FOR_DEVELOPERS = ("bench", "dev", "docs", "manual")
"""Extras for developers only."""
OPENCV_NAMES = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
SECURE_VERSIONS = {
    "Pillow": "10.0.1",
    "opencv-python": "4.8.1.78",
    "requests": "2.32.4",
    "filelock": "3.20.1",
    "ray": "2.52.0",
}
"""The first version of each package without known security holes."""
MISSING_LIBRARY = re.compile(r"lib[\w.+-]+: cannot open shared object file")
"""The system's message for a library that is not installed. pip cannot install it."""


class Requirements(NamedTuple):
    """The packages that the project requires, by their names for pip."""

    required: tuple[str, ...]
    """Includes packages that are installed without dependencies, which are separate extras."""
    optional: tuple[str, ...]
    """Packages of all extras except those for developers."""


def requirements(root: Path = ROOT) -> Requirements:
    """Read the packages from pyproject.toml in `root`, else from the installed distribution.

    The file comes first because it belongs to the running code. The metadata of an editable installation may be older, and
    hosts have none. Both tuples are empty if neither is found."""
    asked_for = _from_pyproject(root / "pyproject.toml") or _from_metadata()
    required = _names([line for extra in ("", *WITHOUT_DEPENDENCIES) for line in asked_for.pop(extra, [])])
    extras = [line for extra, lines in asked_for.items() if extra not in FOR_DEVELOPERS for line in lines]
    return Requirements(required, tuple(name for name in _names(extras) if name not in (PROJECT, *required)))


def _from_pyproject(file: Path) -> dict[str, list[str]]:
    """Return the requirements by extra, the required ones under "". Empty if the file is missing or another project's.

    Python 3.10 has no tomllib, but TOML's lists of strings are valid Python."""
    try:
        text = file.read_text("utf-8")
    except OSError:
        return {}
    sections = dict(re.findall(r"^\[([\w.-]+)\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL))
    project = sections.get("project", "")
    if f'name = "{PROJECT}"\n' not in project:
        return {}
    return {"": _lists(project)["dependencies"], **_lists(sections["project.optional-dependencies"])}


def _lists(section: str) -> dict[str, list[str]]:
    found = re.findall(r"^([\w-]+) = (\[.*?\])$", section, re.MULTILINE | re.DOTALL)
    return {name: ast.literal_eval(value) for name, value in found}


def _from_metadata() -> dict[str, list[str]]:
    try:
        lines = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        return {}
    asked_for: dict[str, list[str]] = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)", marker)
        asked_for.setdefault(extra[1] if extra else "", []).append(requirement)
    return asked_for


def _names(lines: list[str]) -> tuple[str, ...]:
    found = (re.match(r"[\w.-]+", line) for line in lines)
    return tuple(dict.fromkeys(match[0] for match in found if match))


def module_of(package: str) -> str:
    """Return the module to import to check a package."""
    return MODULES.get(package, package)


def format_packages() -> Iterator[str]:
    """Versions of the required packages, one per line."""
    yield f"gpen {__version__}, Python {platform.python_version()}, {platform.platform()}"
    required = requirements().required
    for package in required:
        yield f"  {package:16} {_state(package)}"
    if not required:
        yield "  required packages unknown: pyproject.toml is missing"
    yield from _security_warnings()


def has_broken_package() -> bool:
    """Whether a required package cannot be imported."""
    return any(map(_import_error, requirements().required))


def format_optional_packages() -> Iterator[str]:
    """Versions of the optional packages, one per line."""
    yield "optional packages (not needed to restore):"
    for package in requirements().optional:
        name, version = _find_distribution(package) or (package, "not installed")
        yield f"  {package:16} {version}{'' if name == package else f' ({name})'}"


def explain_import_error(error: BaseException) -> str | None:
    """Return the message for an `ImportError` of a required package, else None."""
    if not isinstance(error, ImportError) or error.name is None:
        return None
    packages = {module_of(package).partition(".")[0]: package for package in requirements().required}
    package = packages.get(error.name.partition(".")[0])
    if package is None:
        return None
    if isinstance(error, ModuleNotFoundError) and error.name in packages:
        return not_installed(package)
    return f"The package {package} cannot be imported ({first_line(error)}). {_repair_advice(package, first_line(error))}"


def _repair_advice(package: str, reason: str) -> str:
    """Return the command that repairs a package that is installed but cannot be imported."""
    if package == "opencv-python" and MISSING_LIBRARY.search(reason):
        name, _ = _find_distribution(package) or (package, "")
        return (
            "OpenCV needs this library for windows, and servers often lack it. Replace OpenCV by its build without windows: "
            f"{uninstall_command(name)} && {install_command('opencv-python-headless')}"
        )
    return f"Install it again: {install_command(package, '--force-reinstall')}"


def format_devices() -> str:
    """Return the available devices, what `auto` uses, and those on which ONNX Runtime runs the network on request."""
    try:
        from ..pipeline.devices import available_devices, dtype_name, pick_device, pick_dtype
        from ..pipeline.onnx_providers import requestable_devices
    except (ImportError, OSError):
        return "unknown without torch"
    device = pick_device("auto")
    short = dtype_name(pick_dtype("auto", device))
    requestable = requestable_devices()
    on_request = f"; on request: {', '.join(requestable)}" if requestable else ""
    return f"{', '.join(str(d) for d in available_devices())}; auto uses {device} with {short}{on_request}"


def format_models_dir(
    models_dir: Path | None, weights: Callable[[Path], Iterator[str]], name: Callable[[Path], str] = str
) -> Iterator[str]:
    """Yield the models folder, which `name` writes, then the lines of `weights` about its files."""
    try:
        folder = models_dirs(models_dir)[0]
    except MissingDependency as error:
        yield f"models folder: unknown. {error}"
        return
    problem = " (is not a folder)" if exists(folder) else " (does not exist yet)"
    yield f"models folder: {name(folder)}{'' if is_folder(folder) else problem}"
    yield from weights(folder)


def _security_warnings() -> Iterator[str]:
    """Yield a warning for each package with known security holes, and a note on hosts."""
    installed = {package: _find_distribution(package) for package in SECURE_VERSIONS}
    insecure = {
        package: one
        for package, one in installed.items()
        if one and parse_version(one[1]) < parse_version(SECURE_VERSIONS[package])
    }
    for package, (name, version) in insecure.items():
        fixed = SECURE_VERSIONS[package]
        yield f'warning: {name} {version} has known security holes, fixed in {fixed}: pip install "{name}>={fixed}"'
    if insecure:
        yield "note: if a host such as A1111 pins an older version, keep the host's version and update it with the host."


def _state(package: str) -> str:
    """Return the version of a required package, and its problem if it has one."""
    version, error = _installed_version(package), _import_error(package)
    if error is None:
        return version or "installed, version unknown"
    reason = first_line(error)
    if version:
        problem = torchvision_problem(error) or f"{reason}. {_repair_advice(package, reason)}"
        return f"{version}, cannot be imported: {problem}"
    purpose = f", it {PURPOSES[package]}" if package in PURPOSES else ""
    return f"MISSING{purpose} ({reason}). Install it: {install_command(package)}"


def _import_error(package: str) -> Exception | None:
    try:
        import_module(module_of(package))
    except (ImportError, OSError) as error:  # OSError: a DLL that Windows cannot load
        return error
    except RuntimeError as error:
        if torchvision_problem(error) is None:
            raise
        return error
    return None


def _installed_version(package: str) -> str | None:
    found = _find_distribution(package)
    return None if found is None else found[1]


def _find_distribution(package: str) -> tuple[str, str] | None:
    """Return the name under which a package is installed, and its version."""
    names = {"opencv-python": OPENCV_NAMES, RUNTIME: RUNTIME_PACKAGES}.get(package, (package,))
    found = ((name, version) for name in names for version in (d.version for d in metadata.distributions(name=name)))
    return next(found, None)

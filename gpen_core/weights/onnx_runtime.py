"""Checks whether ONNX Runtime is installed without importing it."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

RUNTIME = "onnxruntime"
RUNTIME_PACKAGES = (
    RUNTIME,
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
)
"""Packages with the module `onnxruntime`, each for other devices. They exclude each other."""


def has_runtime() -> bool:
    """Whether any of `RUNTIME_PACKAGES` is installed."""
    return find_spec(RUNTIME) is not None


def installed_runtime() -> str | None:
    """Return which of `RUNTIME_PACKAGES` is installed, or None. A build may also have another name."""
    return next((package for package in RUNTIME_PACKAGES if any(True for _ in metadata.distributions(name=package))), None)

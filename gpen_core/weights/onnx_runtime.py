"""Checks whether ONNX Runtime is installed without importing it."""

from __future__ import annotations

from importlib.util import find_spec

RUNTIME = "onnxruntime"


def has_runtime() -> bool:
    """Whether any of ONNX Runtime's packages is installed. They exclude each other, and all have this module."""
    return find_spec(RUNTIME) is not None

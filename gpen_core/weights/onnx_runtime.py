"""Whether ONNX Runtime is installed. Imports nothing of it."""

from __future__ import annotations

from importlib.util import find_spec

RUNTIME = "onnxruntime"


def has_runtime() -> bool:
    """Whether ONNX Runtime is installed, in any of its packages: they exclude each other, and all have this module."""
    return find_spec(RUNTIME) is not None

"""Face restoration with GPEN for Stable Diffusion hosts and the command line.

    from gpen_core import FaceRestorer, RestoreOptions
    result = FaceRestorer.load("gpen-bfr-2048").restore("photo.jpg", RestoreOptions(strength=0.8))

The names below are loaded when first used: importing this package imports neither torch nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import GpenError, Interrupted

if TYPE_CHECKING:
    from .faces.face import Face
    from .options import RestoreOptions
    from .restorer import FaceRestorer, RestoreResult

__version__ = "0.1.0"
__all__ = ["Face", "FaceRestorer", "GpenError", "Interrupted", "RestoreOptions", "RestoreResult"]

_LAZY = {
    "Face": ".faces.face",
    "FaceRestorer": ".restorer",
    "RestoreOptions": ".options",
    "RestoreResult": ".restorer",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)

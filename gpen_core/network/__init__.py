"""The network: NCHW RGB in [-1, 1] in and out. Imports torch; knows nothing of images, files or faces."""

from .config import RELEASED, RELEASED_SIZES, GPENConfig
from .gpen import GPEN
from .state_dict import extract_state_dict, normalize_state_dict, validate_state_dict, validate_tensors

__all__ = [
    "GPEN",
    "RELEASED",
    "RELEASED_SIZES",
    "GPENConfig",
    "validate_tensors",
    "validate_state_dict",
    "extract_state_dict",
    "normalize_state_dict",
]

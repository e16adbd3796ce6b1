"""The GPEN network in PyTorch. Input and output are NCHW RGB in [-1, 1]. Independent of images, files and faces."""

from .config import RELEASED, RELEASED_SIZES, GPENConfig
from .gpen import GPEN
from .onnx_network import OnnxModel, OnnxNetwork
from .state_dict import extract_state_dict, normalize_state_dict, validate_size, validate_state_dict, validate_tensors

__all__ = [
    "GPEN",
    "RELEASED",
    "RELEASED_SIZES",
    "GPENConfig",
    "OnnxModel",
    "OnnxNetwork",
    "extract_state_dict",
    "normalize_state_dict",
    "validate_size",
    "validate_state_dict",
    "validate_tensors",
]

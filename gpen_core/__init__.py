"""Face restoration with GPEN for Stable Diffusion hosts and the command line.

    from gpen_core import FaceRestorer, RestoreOptions
    result = FaceRestorer.load("gpen-bfr-2048").restore("photo.jpg", RestoreOptions(strength=0.8))

The names below are the public ones. All but the errors are loaded when first used: importing this package imports neither
torch nor OpenCV. Its network is `gpen_core.network.GPEN`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ChangedWeights,
    DeviceError,
    ErrorConverter,
    GpenError,
    InputError,
    Interrupted,
    MissingExtra,
    MissingWeights,
    OptionsError,
    OutOfMemory,
    OutputError,
    TooLarge,
    UnsupportedPackage,
    WeightsError,
)
from .version import __version__

if TYPE_CHECKING:
    from .faces.draw import numbered
    from .faces.face import Box, Face, faces_text
    from .images.codecs import Photo
    from .options import (
        ANGLES,
        AUTO_MODELS,
        CHOICES,
        COLORS,
        DETECTORS,
        MASK_TYPES,
        ORDERS,
        PRECISIONS,
        REGIONS,
        TEMPLATES,
        RestoreOptions,
        VideoOptions,
    )
    from .pipeline.crops import Cropped, FaceCrop, Pasted, crop_faces, paste_faces
    from .pipeline.inputs import Frame
    from .pipeline.model_set import trust_weights
    from .pipeline.restorer import FaceRestorer, RestoreResult
    from .progress import Progress, ProgressEvent
    from .tools.self_test import SelfTest, self_test_outcome
    from .video.container_choice import suffix_for
    from .video.restore_video import TrackOutcome, VideoResult, restore_video
    from .video.sequence import SequenceResult, restore_sequence
    from .weights.catalog import SUFFIXES
    from .weights.download_options import DownloadOptions
    from .weights.folders import (
        detector_choices,
        download_size,
        find_in,
        models_dirs,
        network_choice,
        network_choices,
        state_of,
    )

_LAZY = {
    ".pipeline.crops": ("Cropped", "FaceCrop", "Pasted", "crop_faces", "paste_faces"),
    ".faces.draw": ("numbered",),
    ".faces.face": ("Box", "Face", "faces_text"),
    ".pipeline.inputs": ("Frame",),
    ".pipeline.model_set": ("trust_weights",),
    ".options": (
        "ANGLES",
        "AUTO_MODELS",
        "CHOICES",
        "COLORS",
        "DETECTORS",
        "MASK_TYPES",
        "ORDERS",
        "PRECISIONS",
        "REGIONS",
        "TEMPLATES",
        "RestoreOptions",
        "VideoOptions",
    ),
    ".images.codecs": ("Photo",),
    ".progress": ("Progress", "ProgressEvent"),
    ".pipeline.restorer": ("FaceRestorer", "RestoreResult"),
    ".tools.self_test": ("SelfTest", "self_test_outcome"),
    ".video.restore_video": ("TrackOutcome", "VideoResult", "restore_video"),
    ".video.sequence": ("SequenceResult", "restore_sequence"),
    ".video.container_choice": ("suffix_for",),
    ".weights.catalog": ("SUFFIXES",),
    ".weights.folders": (
        "detector_choices",
        "download_size",
        "find_in",
        "models_dirs",
        "network_choice",
        "network_choices",
        "state_of",
    ),
    ".weights.download_options": ("DownloadOptions",),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "ANGLES",
    "AUTO_MODELS",
    "CHOICES",
    "COLORS",
    "DETECTORS",
    "MASK_TYPES",
    "ORDERS",
    "PRECISIONS",
    "REGIONS",
    "SUFFIXES",
    "TEMPLATES",
    "Box",
    "ChangedWeights",
    "Cropped",
    "DeviceError",
    "ErrorConverter",
    "DownloadOptions",
    "Face",
    "FaceCrop",
    "FaceRestorer",
    "Frame",
    "GpenError",
    "InputError",
    "Interrupted",
    "MissingExtra",
    "MissingWeights",
    "OptionsError",
    "OutOfMemory",
    "OutputError",
    "Photo",
    "Pasted",
    "Progress",
    "ProgressEvent",
    "RestoreOptions",
    "RestoreResult",
    "SelfTest",
    "SequenceResult",
    "TooLarge",
    "TrackOutcome",
    "UnsupportedPackage",
    "VideoOptions",
    "VideoResult",
    "WeightsError",
    "__version__",
    "crop_faces",
    "detector_choices",
    "download_size",
    "faces_text",
    "find_in",
    "models_dirs",
    "network_choice",
    "network_choices",
    "numbered",
    "restore_sequence",
    "restore_video",
    "self_test_outcome",
    "state_of",
    "suffix_for",
    "trust_weights",
    "paste_faces",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)

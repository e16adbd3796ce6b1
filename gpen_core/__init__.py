"""Face restoration with GPEN for Stable Diffusion hosts and the command line.

    from gpen_core import FaceRestorer
    restorer = FaceRestorer.load()
    result = restorer("photo.jpg", strength=0.8)
    result.save("restored.jpg")

The names in `__all__` are public. All except the errors are loaded on first use, so importing this package imports neither
torch nor OpenCV. The network is `gpen_core.network.GPEN`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    DeviceError,
    ErrorConverter,
    FaceNumberError,
    GpenError,
    ImageTooLarge,
    InputError,
    Interrupted,
    MissingDependency,
    MissingWeights,
    OptionsError,
    OutOfMemory,
    OutputError,
    UnsupportedPackage,
    WeightsChanged,
    WeightsError,
)
from .version import __version__

if TYPE_CHECKING:
    from .faces.draw import draw_faces
    from .faces.face import Box, Face, faces_text
    from .images.codecs import EncodedImage
    from .options import (
        ANGLES,
        AUTO_MODELS,
        COLORS,
        DETECTORS,
        FACE_CHOICES,
        MASK_TYPES,
        ORDERS,
        PRECISIONS,
        REGIONS,
        TEMPLATES,
        FaceReference,
        Option,
        OptionSpec,
        RestoreOptions,
        VideoOptions,
        base_selection,
        changed_options,
        declared_options,
        required_weights,
        with_references,
    )
    from .pipeline.crops import FaceCrop, FaceCrops, PasteResult, crop_faces, paste_faces
    from .pipeline.gpen_runner import parse_auto_model
    from .pipeline.inputs import RestoreInput
    from .pipeline.model_set import accept_changed_weights, accept_digest, download_weights
    from .pipeline.needed_weights import missing_weights
    from .pipeline.restore_result import RestoreResult
    from .pipeline.restorer import FaceRestorer
    from .progress import Progress, ProgressEvent
    from .tools.self_test import SelfTest, run_self_test
    from .video.container_choice import output_suffix
    from .video.people_summary import PersonOutcome, people_of_sequence, people_of_video, people_text
    from .video.region_mask import MaskClip
    from .video.restore_video import restore_video
    from .video.sequence import SequenceResult, restore_sequence
    from .video.video_result import TrackOutcome, VideoResult
    from .weights.catalog import SUFFIXES, Entry, find_entry
    from .weights.download_options import DownloadOptions
    from .weights.folders import (
        can_download,
        download_size,
        find_file,
        fingerprint,
        list_detectors,
        list_networks,
        match_network_name,
        models_dirs,
        needs_onnx_runtime,
        present_sizes,
    )

_LAZY = {
    ".faces.draw": ("draw_faces",),
    ".faces.face": ("Box", "Face", "faces_text"),
    ".images.codecs": ("EncodedImage",),
    ".options": (
        "ANGLES",
        "AUTO_MODELS",
        "COLORS",
        "DETECTORS",
        "FACE_CHOICES",
        "MASK_TYPES",
        "ORDERS",
        "PRECISIONS",
        "REGIONS",
        "TEMPLATES",
        "FaceReference",
        "Option",
        "OptionSpec",
        "RestoreOptions",
        "VideoOptions",
        "base_selection",
        "changed_options",
        "declared_options",
        "required_weights",
        "with_references",
    ),
    ".pipeline.crops": ("FaceCrop", "FaceCrops", "PasteResult", "crop_faces", "paste_faces"),
    ".pipeline.gpen_runner": ("parse_auto_model",),
    ".pipeline.inputs": ("RestoreInput",),
    ".pipeline.model_set": ("accept_changed_weights", "accept_digest", "download_weights"),
    ".pipeline.needed_weights": ("missing_weights",),
    ".pipeline.restore_result": ("RestoreResult",),
    ".pipeline.restorer": ("FaceRestorer",),
    ".progress": ("Progress", "ProgressEvent"),
    ".tools.self_test": ("SelfTest", "run_self_test"),
    ".video.container_choice": ("output_suffix",),
    ".video.people_summary": ("PersonOutcome", "people_of_sequence", "people_of_video", "people_text"),
    ".video.region_mask": ("MaskClip",),
    ".video.restore_video": ("restore_video",),
    ".video.sequence": ("SequenceResult", "restore_sequence"),
    ".video.video_result": ("TrackOutcome", "VideoResult"),
    ".weights.catalog": ("SUFFIXES", "Entry", "find_entry"),
    ".weights.download_options": ("DownloadOptions",),
    ".weights.folders": (
        "can_download",
        "download_size",
        "find_file",
        "fingerprint",
        "list_detectors",
        "list_networks",
        "match_network_name",
        "models_dirs",
        "needs_onnx_runtime",
        "present_sizes",
    ),
}
"""The names in each module, in the order of the imports above."""
_HOME = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "ANGLES",
    "AUTO_MODELS",
    "COLORS",
    "DETECTORS",
    "FACE_CHOICES",
    "MASK_TYPES",
    "ORDERS",
    "PRECISIONS",
    "REGIONS",
    "SUFFIXES",
    "TEMPLATES",
    "Box",
    "DeviceError",
    "DownloadOptions",
    "EncodedImage",
    "Entry",
    "ErrorConverter",
    "Face",
    "FaceCrop",
    "FaceCrops",
    "FaceNumberError",
    "FaceReference",
    "FaceRestorer",
    "GpenError",
    "ImageTooLarge",
    "InputError",
    "Interrupted",
    "MaskClip",
    "MissingDependency",
    "MissingWeights",
    "Option",
    "OptionSpec",
    "OptionsError",
    "OutOfMemory",
    "OutputError",
    "PasteResult",
    "PersonOutcome",
    "Progress",
    "ProgressEvent",
    "RestoreInput",
    "RestoreOptions",
    "RestoreResult",
    "SelfTest",
    "SequenceResult",
    "TrackOutcome",
    "UnsupportedPackage",
    "VideoOptions",
    "VideoResult",
    "WeightsChanged",
    "WeightsError",
    "__version__",
    "accept_changed_weights",
    "accept_digest",
    "base_selection",
    "can_download",
    "changed_options",
    "crop_faces",
    "declared_options",
    "download_size",
    "download_weights",
    "draw_faces",
    "faces_text",
    "find_entry",
    "find_file",
    "fingerprint",
    "list_detectors",
    "list_networks",
    "match_network_name",
    "missing_weights",
    "models_dirs",
    "needs_onnx_runtime",
    "output_suffix",
    "parse_auto_model",
    "paste_faces",
    "people_of_sequence",
    "people_of_video",
    "people_text",
    "present_sizes",
    "required_weights",
    "restore_sequence",
    "restore_video",
    "run_self_test",
    "with_references",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Every option of a restoration, each declared once: its default, its meaning, its range, and where it is offered.

The command line, the ComfyUI nodes, the controls and the API of A1111, the text in a saved image and the reference pages are
made from these declarations. A new option is a field of `RestoreOptions` or `VideoOptions`, and the code that does the work.
"""

from .restore import (
    ANGLES,
    AUTO,
    AUTO_MODELS,
    COLORS,
    DETECTORS,
    FACE_CHOICES,
    MASK_TYPES,
    OCCLUDERS,
    ORDERS,
    OUTPUT_FORMATS,
    PRECISIONS,
    REGIONS,
    TEMPLATES,
    RestoreOptions,
)
from .spec import (
    A1111,
    API,
    CLI,
    COMFYUI,
    FACE_PARSER,
    FRONT_ENDS,
    Option,
    OptionSpec,
    changed_options,
    declared_options,
    required_weights,
    supported_on_device,
)
from .video import DEFAULT_MIN_DURATION, INTERLACED, VIDEO_FORMATS, VideoOptions

__all__ = [
    "A1111",
    "ANGLES",
    "API",
    "AUTO",
    "AUTO_MODELS",
    "CLI",
    "COLORS",
    "COMFYUI",
    "DEFAULT_MIN_DURATION",
    "DETECTORS",
    "FACE_CHOICES",
    "FACE_PARSER",
    "FRONT_ENDS",
    "INTERLACED",
    "MASK_TYPES",
    "OCCLUDERS",
    "ORDERS",
    "OUTPUT_FORMATS",
    "PRECISIONS",
    "REGIONS",
    "TEMPLATES",
    "VIDEO_FORMATS",
    "Option",
    "OptionSpec",
    "RestoreOptions",
    "VideoOptions",
    "changed_options",
    "declared_options",
    "required_weights",
    "supported_on_device",
]

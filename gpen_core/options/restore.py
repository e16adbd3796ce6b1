"""The options of one image."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionsError
from .selection import FACE_CHOICES, FaceReference, check_faces_request, face_references, parse_faces
from .spec import A1111, API, COMMAND_LINE_ONLY, FACE_EMBEDDER, FACE_PARSER, DeclaredOptions, declare

ORDERS = ("reading", "left-right", "large-small")
TEMPLATES = ("gpen", "ffhq")
MASK_TYPES = ("auto", "feather", "parse")
COLORS = ("auto", "none", "match")
OCCLUDERS = "occluders"
# Regions that can be copied from the input: classes of ParseNet, and objects in front of a face.
REGIONS = (
    "eyes", "brows", "nose", "mouth", "skin", "ears", "hair", "neck", "glasses", "earrings", "necklace", OCCLUDERS
)  # fmt: skip
ANGLES = ("auto", "upright", "all")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
AUTO = "auto"
AUTO_MODELS = (AUTO, f"{AUTO}:256")
"""Names that select a network for each face: the smallest downloaded one that fits, from 512 or from 256 px up. If none is
downloaded, the one for 2048 is downloaded, which fits every face."""
IMAGE_FORMATS = ("png", "jpg", "webp", "tiff")
"""Suffixes of the formats in which results can be written, whatever the input is."""
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25")  # the first is the default


@dataclass(frozen=True, kw_only=True, repr=False)
class RestoreOptions(DeclaredOptions):
    """How to restore the faces of one image. Raises `OptionsError` for an invalid value.

    docs/reference/options.md lists the fields with their meaning, ranges and defaults."""

    strength: float = declare(
        1.0, "Strength", "Blend of the restored face (1) with the input (0). Lower values keep more of the person.",
        "look", minimum=0, maximum=1, step=0.01, infotext="GPEN strength",
    )  # fmt: skip
    fidelity: float = declare(
        0.0, "Fidelity",
        "Keep what the input shows reliably, such as shapes and colors, and add only the detail that it lacks. 0 turns it "
        "off.",
        "look", minimum=0, maximum=1, step=0.05, infotext="GPEN fidelity", is_advanced=True, on_device=False,
    )  # fmt: skip
    faces: str | tuple[int | str | FaceReference, ...] = declare(
        "all", "Faces",
        "Faces to restore: all, largest, center, or face numbers starting at 0, e.g. 0,2-4.",
        "selection", convert=parse_faces, placeholder="all, largest, center or 0,2-4",
        suggestions=FACE_CHOICES, is_repeatable=True, check_request=check_faces_request,
        infotext="GPEN selection", weights=lambda value: (FACE_EMBEDDER,) if face_references(value) else (),
    )  # fmt: skip
    order: str = declare(
        "reading", "Order",
        "Order of face numbers. reading: row by row, from the left. left-right: by position. large-small: by size.",
        "selection", choices=ORDERS, infotext="GPEN order", is_advanced=True,
        host_defaults={A1111: "left-right", API: "left-right"},  # as ReActor counts
    )  # fmt: skip
    min_face_size: int = declare(
        0, "Min face size", "Skip faces smaller than this (shorter side of the bounding box).",
        "selection", minimum=0, maximum=8192, step=1, unit="px", infotext="GPEN min face size", is_advanced=True,
    )  # fmt: skip
    max_face_size: int = declare(
        0, "Max face size", "Skip faces larger than this (shorter side of the bounding box). 0 turns it off.",
        "selection", minimum=0, maximum=8192, step=1, unit="px", infotext="GPEN max face size", is_advanced=True,
    )  # fmt: skip
    max_faces: int | None = declare(
        None, "Max faces", "Restore at most this many faces, largest first. 0 restores all.",
        "selection", minimum=0, maximum=1000, step=1, infotext="GPEN max faces", is_advanced=True,
    )  # fmt: skip
    confidence: float = declare(
        0.9, "Confidence", "Minimum detection score. Lower values find more faces, but also more false positives.",
        "detection", minimum=0, maximum=1, step=0.01, infotext="GPEN confidence", is_advanced=True,
    )  # fmt: skip
    detection_size: int = declare(
        2000, "Detection size",
        "Downscale the image for detection to about this size: the longer side of a 4:3 image with as many pixels. Higher "
        "finds smaller faces but is slower.",
        "detection", minimum=64, maximum=8192, step=8, unit="px", infotext="GPEN detection size", is_advanced=True,
    )  # fmt: skip
    angles: str = declare(
        "auto", "Angles",
        "Rotations to try. auto: tries all of them if no upright face is found. all: always tries every rotation. "
        "upright: none.",
        "detection", choices=ANGLES, infotext="GPEN angles", is_advanced=True,
    )  # fmt: skip
    template: str = declare(
        "gpen", "Template", "Alignment of the face crop. Use ffhq only for networks trained with FFHQ's alignment.",
        "look", choices=TEMPLATES, infotext="GPEN template", is_advanced=True,
    )  # fmt: skip
    mask_type: str = declare(
        "auto", "Mask type",
        "Shape of the blend mask. feather: a soft square. parse: the outline of the face, found by ParseNet. auto: parse "
        "on a GPU, feather on a CPU.",
        "look", choices=MASK_TYPES, infotext="GPEN mask type", is_advanced=True,
        weights=lambda value: (FACE_PARSER,) if value == "parse" else (),
    )  # fmt: skip
    mask_expand: float = declare(
        0.0, "Mask expand", "Expand (> 0) or shrink (< 0) the mask by this fraction of the face width.",
        "look", minimum=-0.5, maximum=0.5, step=0.01, infotext="GPEN mask expand", is_advanced=True, on_device=False,
    )  # fmt: skip
    color: str = declare(
        "auto", "Color",
        "Color of restored faces. auto: keeps gray and sepia faces gray and sepia. match: uses the input's colors. none: "
        "uses the network's colors.",
        "look", choices=COLORS, infotext="GPEN color", is_advanced=True,
    )  # fmt: skip
    grain: float = declare(
        0.0, "Grain",
        "Add the image's film grain or noise back to restored faces. 1 is as strong as in the rest of the image.",
        "look", minimum=0, maximum=1, step=0.05, infotext="GPEN grain", is_advanced=True, on_device=False,
    )  # fmt: skip
    preserve: str | tuple[str, ...] = declare(
        (), "Preserve", "Regions copied unchanged from the input, e.g. eyes,mouth. All except occluders require ParseNet.",
        "look", choices=REGIONS, multiple=True, placeholder="eyes,mouth", infotext="GPEN preserve", is_advanced=True,
        on_device=False, weights=lambda value: (FACE_PARSER,) if set(value) - {OCCLUDERS} else (),
    )  # fmt: skip
    min_identity: float = declare(
        0.0, "Min identity",
        "Lower a face's strength until its similarity to the input is at least this, else skip it. In videos: per person "
        "and shot. 0 turns it off. From 0.363: same person. Requires SFace.",
        "look", minimum=0, maximum=1, step=0.01, infotext="GPEN min identity", is_advanced=True, on_device=False,
        weights=lambda value: (FACE_EMBEDDER,) if value > 0 else (),
    )  # fmt: skip
    upscale: float = declare(
        1.0, "Upscale", "Upscale the whole image by this factor. Faces are restored from the original pixels.",
        "upscale", minimum=1, maximum=8, step=0.5, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    upscaler: str = declare(
        "lanczos", "Upscaler",
        "Upscaler for the background: lanczos, realesrnet_x2, realesrnet_x4, or an RRDBNet file. Networks require spandrel "
        "or basicsr.",
        "upscale", placeholder="lanczos, the name of a network or a file", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "max_faces", self.max_faces or None)
        if 0 < self.max_face_size < self.min_face_size:
            raise OptionsError(
                f"max_face_size is {self.max_face_size} and min_face_size {self.min_face_size}; expected the larger one as "
                "the maximum."
            )

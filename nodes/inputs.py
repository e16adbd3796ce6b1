"""Inputs that several nodes have, and what they mean to gpen_core."""

from __future__ import annotations

from typing import Any

from ..gpen_core import ANGLES, COLORS, FACE_CHOICES, MASK_TYPES, ORDERS, OptionsError, RestoreOptions, VideoOptions
from . import boxes
from .comfy import AnyBoundingBoxes, advanced_optional, io

BY_INDEX = "by index"
DEFAULTS = RestoreOptions()
VIDEO_DEFAULTS = VideoOptions()


def strength(default: float) -> Any:
    return io.Float.Input(
        "strength",
        default=default,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip="How much of the restored face is taken: 0 leaves the image as it is, 1 takes all of it.",
    )


def detection() -> list[Any]:
    return [
        io.Combo.Input(
            "order",
            options=list(ORDERS),
            default=DEFAULTS.order,
            tooltip="How faces are numbered, from 0. reading: by rows from the top, each from the left. large-small is "
            "ReActor's order in ComfyUI, left-right the one of its extension for A1111.",
        ),
        confidence(),
    ]


def confidence() -> Any:
    return io.Float.Input(
        "confidence",
        default=DEFAULTS.confidence,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How sure the detector must be. Lower finds more faces, and more that are false.",
    )


def advanced_detection() -> list[Any]:
    """Last in a node, since saved graphs know their values by place."""
    return [
        io.Int.Input(
            "detection_size",
            default=DEFAULTS.detection_size,
            min=64,
            max=8192,
            step=8,
            tooltip="A longer side is reduced to so many pixels for the smallest faces; large ones are found at any. More "
            "finds smaller ones and takes longer.",
            **advanced_optional(io.Int),
        ),
        io.Combo.Input(
            "angles",
            options=list(ANGLES),
            default=DEFAULTS.angles,
            tooltip="auto: tilted heads, and turned images where nothing is found upright. all: looks at every angle "
            "always. upright: never turns.",
            **advanced_optional(io.Combo),
        ),
    ]


def advanced_selection() -> list[Any]:
    return [
        *advanced_detection(),
        io.Int.Input(
            "max_faces",
            default=0,
            min=0,
            max=1000,
            tooltip="At most so many faces, the largest; 0: all.",
            **advanced_optional(io.Int),
        ),
    ]


def selection() -> list[Any]:
    first, second = detection()
    return [
        io.Combo.Input(
            "faces",
            options=[*FACE_CHOICES, BY_INDEX],
            default=DEFAULTS.faces,
            tooltip="Which faces are restored; center is the one nearest to the middle. For 'by index', Detect Faces (GPEN) "
            "shows the numbers, at the same order, confidence, detection_size and angles.",
        ),
        io.String.Input("indices", default="0", tooltip="With 'by index': numbers from 0, such as 0,2 or 1-3."),
        first,
        second,
        min_face_size(),
    ]


def min_face_size() -> Any:
    return io.Int.Input(
        "min_face_size",
        default=0,
        min=0,
        max=8192,
        tooltip="In pixels of the image: faces whose box has a shorter side below this are left alone.",
    )


def mask_type() -> Any:
    return io.Combo.Input(
        "mask_type",
        options=list(MASK_TYPES),
        default=DEFAULTS.mask_type,
        tooltip="feather: a soft square. parse: face, hair, ears and neck, found by ParseNet (85 MB, downloaded "
        "if missing). auto: parse on a GPU, feather on the CPU.",
    )


def appearance() -> list[Any]:
    return [
        mask_type(),
        io.Combo.Input(
            "color",
            options=list(COLORS),
            default=DEFAULTS.color,
            tooltip="auto: a face that is gray or sepia in the image stays so. match gives every restored face the colors "
            "of the one in the image. none: as the network gives them.",
        ),
    ]


def advanced_appearance() -> list[Any]:
    """Last in a node, as `advanced_detection`."""
    return [
        io.String.Input(
            "preserve",
            default="",
            tooltip="Regions that stay as they are in the image, such as eyes,mouth; any of eyes, brows, nose, mouth, skin, "
            "ears, hair, neck, glasses, earrings, necklace, occluders. All but occluders are found by ParseNet (85 MB, "
            "downloaded if missing).",
            **advanced_optional(io.String),
        ),
        io.Float.Input(
            "mask_expand",
            default=DEFAULTS.mask_expand,
            min=-0.5,
            max=0.5,
            step=0.01,
            tooltip="Moves the mask's edge outwards by so many widths of the face, inwards below 0.",
            **advanced_optional(io.Float),
        ),
        io.Float.Input(
            "grain",
            default=DEFAULTS.grain,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How much of the image's own grain the restored faces get.",
            **advanced_optional(io.Float),
        ),
    ]


def boxes_input() -> Any:
    return AnyBoundingBoxes.Input(
        "bboxes",
        optional=True,
        tooltip="Boxes from any detector, or Impact Pack's SEGS: only faces that lie in one of them (by half or "
        "more) are restored, and a box without one is looked into closely.",
        extra_dict={"forceInput": True},
    )


def box_format() -> Any:
    return io.Combo.Input(
        "box_format",
        options=list(boxes.FORMATS),
        default=boxes.FORMATS[0],
        tooltip="What the four numbers of a box without names are: x, y, width, height (ComfyUI's own), or the "
        "corners x0, y0, x1, y1. SEGS and boxes with names are known.",
        **advanced_optional(io.Combo),
    )


def region_mask() -> Any:
    return io.Mask.Input(
        "region_mask",
        optional=True,
        tooltip="Only here is anything restored; faces outside it are not run at all. An empty mask "
        "counts as none: Load Image gives such of an image without transparent parts.",
    )


def restore_options(
    strength: float,
    faces: str,
    indices: str,
    order: str,
    confidence: float,
    min_face_size: int,
    mask_type: str,
    color: str,
    detection_size: int = DEFAULTS.detection_size,
    angles: str = DEFAULTS.angles,
    max_faces: int = 0,
    preserve: str = "",
    mask_expand: float = DEFAULTS.mask_expand,
    grain: float = DEFAULTS.grain,
) -> RestoreOptions:
    """The values of these inputs, as `RestoreOptions`. Raises `OptionsError`."""
    return RestoreOptions(
        strength=strength,
        faces=_parse_indices(indices) if faces == BY_INDEX else faces,
        order=order,
        confidence=confidence,
        min_face_size=min_face_size,
        mask_type=mask_type,
        color=color,
        detection_size=detection_size,
        angles=angles,
        max_faces=max_faces or None,
        preserve=preserve,
        mask_expand=mask_expand,
        grain=grain,
    )


def _parse_indices(indices: str) -> str | tuple[int, ...]:
    """What the text names; its error speaks of the widget that the user sees."""
    try:
        return RestoreOptions(faces=indices).faces
    except OptionsError as error:
        raise OptionsError(f"indices is {indices!r}; expected numbers from 0, such as 0,2 or 1-3.") from error

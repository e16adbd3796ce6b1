"""Conversion between the bounding boxes of ComfyUI and other packs and those of gpen_core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..gpen_core import Box, Face, InputError
from .tensors import broadcast

FORMATS = ("xywh", "xyxy")  # the first is ComfyUI's


def parse_boxes(value: Any, shape: Sequence[int], box_format: str = "xywh") -> list[list[Box] | None]:
    """Return the boxes (x0, y0, x1, y1) for each frame of an IMAGE of `shape` [B, H, W, C]; None for each without boxes.

    `value` is one box or several for every frame, a list of boxes for each frame, or Impact Pack's SEGS. A box is a
    mapping of x, y, width and height, or at least four numbers (a list, tuple, array or tensor). `box_format` tells what
    the first four are; the others are ignored. Raises `InputError` for anything else."""
    count = shape[0]
    if value is None:
        return [None] * count
    if _is_segs(value):
        return [_boxes_from_segs(value, shape)] * count
    value = _to_lists(value)
    if _is_box(value):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InputError(f"Expected bounding boxes, got {type(value).__name__}.")
    if any(isinstance(one, (list, tuple)) and not _is_box(one) for one in value):
        frames = [[one] if _is_box(one) else one for one in value]
        each = broadcast(frames, count, "lists of bounding boxes")
        return [[_parse_box(box, box_format) for box in boxes] for boxes in each]
    return [[_parse_box(box, box_format) for box in value]] * count


def to_bounding_boxes(faces: Sequence[Face]) -> list[dict[str, Any]]:
    """Return faces in the format of ComfyUI's own detectors. The label is the face number."""
    return [
        {
            "x": float(face.box[0]),
            "y": float(face.box[1]),
            "width": float(face.width),
            "height": float(face.height),
            "label": str(number),
            "score": float(face.score),
        }
        for number, face in enumerate(faces)
    ]


def _to_lists(value: Any) -> Any:
    """Convert arrays and tensors, also nested ones, to lists."""
    if hasattr(value, "tolist") and not isinstance(value, (list, tuple, Mapping)):
        return value.tolist()
    return [_to_lists(one) for one in value] if isinstance(value, (list, tuple)) else value


def _is_box(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) >= 4 and all(isinstance(one, (int, float)) for one in value[:4])
    return isinstance(value, Mapping)


def _is_segs(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (list, tuple))
    return is_pair and len(value[0]) == 2 and all(hasattr(seg, "bbox") for seg in value[1])


def _boxes_from_segs(segs: Any, shape: Sequence[int]) -> list[Box]:
    """SEGS hold the size of the image that they were found in. Scale the boxes to the image, which may be upscaled."""
    (height, width), segments = segs
    x, y = shape[2] / width, shape[1] / height
    boxes = (_parse_box(_to_lists(seg.bbox), "xyxy") for seg in segments)
    return [(x0 * x, y0 * y, x1 * x, y1 * y) for x0, y0, x1, y1 in boxes]


def _parse_box(box: Any, box_format: str) -> Box:
    try:
        if isinstance(box, Mapping):
            x, y, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
            return x, y, x + width, y + height
        x, y, right, bottom = (float(v) for v in box[:4])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Expected a bounding box with x, y, width and height, got {box!r}.") from error
    return (x, y, right, bottom) if box_format == "xyxy" else (x, y, x + right, y + bottom)

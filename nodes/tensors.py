"""ComfyUI's IMAGE, MASK and BOUNDING_BOX and what gpen_core takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_management as management
import numpy as np
import torch
from numpy.typing import NDArray

from ..gpen_core.errors import InputError
from ..gpen_core.faces.face import Box, Face

NO_ALPHA = 64  # LoadImage gives a mask of 64x64 zeros for a picture without alpha


def frames_of(image: torch.Tensor) -> list[NDArray[Any]]:
    """IMAGE [B, H, W, C] -> B arrays [H, W, C] in [0, 1]: float16 as it is, else float32. Not to be written to."""
    if image.ndim != 4:
        raise InputError(f"Expected an IMAGE [B, H, W, C], got {list(image.shape)}.")
    kept = image.detach() if image.dtype in (torch.float16, torch.float32) else image.detach().float()
    return list(kept.cpu().numpy())


def image_of(frames: Sequence[NDArray[Any]], like: torch.Tensor) -> torch.Tensor:
    """B arrays [H, W, C] -> IMAGE [B, H, W, C] in `like`'s type, where ComfyUI keeps what passes between nodes."""
    return torch.from_numpy(np.stack(frames)).to(management.intermediate_device(), like.dtype)


def crop_of(crop: NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    return image_of([crop], like)  # [1, S, S, 3]


def mask_of(masks: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """B arrays [H, W] -> MASK [B, H, W], float32."""
    return torch.from_numpy(np.stack(masks)).to(management.intermediate_device())


def limits_of(mask: torch.Tensor | None, count: int) -> list[NDArray[np.float32] | None]:
    """MASK [B, H, W] or [H, W] -> one per frame; a single one counts for all. None where there is nothing to limit."""
    if mask is None:
        return [None] * count
    if mask.shape[-2:] == (NO_ALPHA, NO_ALPHA) and not mask.any():
        return [None] * count
    masks = list(mask.detach().float().cpu().reshape(-1, *mask.shape[-2:]).numpy())
    return _for_each(masks, count, "mask")


def partners_of(image: torch.Tensor | None, count: int, what: str) -> list[NDArray[Any] | None]:
    """A second IMAGE, one picture for each frame; None where it is not connected."""
    if image is not None and len(image) != count:
        raise InputError(f"There are {count} images, but the {what} has {len(image)}. Each needs its own.")
    return [None] * count if image is None else list(frames_of(image))


def boxes_of(value: Any, count: int) -> list[list[Box] | None]:
    """BOUNDING_BOX -> boxes (x0, y0, x1, y1) for each frame; None where it is not connected.

    It comes as one dict of x, y, width, height, as a list of them (for every frame), or as a list of such lists."""
    if value is None:
        return [None] * count
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InputError(f"Expected bounding boxes, got {type(value).__name__}.")
    if any(isinstance(one, (list, tuple)) for one in value):
        frames = [[one] if isinstance(one, Mapping) else one for one in value]
        return [[_box(box) for box in boxes] for boxes in _for_each(frames, count, "list of bounding boxes")]
    return [[_box(box) for box in value]] * count


def boxes_from(faces: Sequence[Face]) -> list[dict[str, Any]]:
    """Faces as ComfyUI's own detectors describe them; the label is the face's number."""
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


def numbered(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """[H, W, C] -> [H, W, 3]: the picture with each face's box and number."""
    import cv2  # a fifth of a second, which ComfyUI's start is spared

    rgb = np.ascontiguousarray(np.broadcast_to(frame[..., : 1 if frame.shape[2] < 3 else 3], (*frame.shape[:2], 3)))
    drawn: Any = np.rint(np.clip(rgb.astype(np.float32), 0, 1) * 255).astype(np.uint8)  # all that OpenCV 5 writes on
    for number, face in enumerate(faces):
        x0, y0, x1, y1 = (round(v) for v in face.box)
        size = max(0.4, face.shorter_side / 100)
        thick = max(1, round(size * 2))
        cv2.rectangle(drawn, (x0, y0), (x1, y1), (60, 220, 60), thick)
        for colour, width in (((0, 0, 0), thick + 2), ((255, 255, 255), thick)):  # readable on any ground
            where = (x0 + 3, y0 + round(24 * size))
            cv2.putText(drawn, str(number), where, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
    return np.asarray(drawn, np.float32) / np.float32(255)


def box_mask(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """[H, W]: 1 inside the faces' boxes."""
    mask: Any = np.zeros(frame.shape[:2], np.float32)
    for face in faces:
        x0, y0, x1, y1 = (round(v) for v in face.box)
        mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 1
    return np.asarray(mask, np.float32)


def _box(box: Any) -> Box:
    try:
        x, y, width, height = (box["x"], box["y"], box["width"], box["height"]) if isinstance(box, Mapping) else box
        return float(x), float(y), float(x) + float(width), float(y) + float(height)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Expected a bounding box with x, y, width and height, got {box!r}.") from error


def _for_each(items: list[Any], count: int, what: str) -> list[Any]:
    if len(items) == count:
        return items
    if len(items) == 1:
        return items * count
    raise InputError(f"There are {count} images, but the {what} has {len(items)}. Give as many, or one for all.")

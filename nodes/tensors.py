"""ComfyUI's IMAGE, MASK and BOUNDING_BOX and what gpen_core takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import comfy.model_management as management
import numpy as np
import torch
from numpy.typing import NDArray

from ..gpen_core import Box, Face, InputError

BOX_FORMATS = ("xywh", "xyxy")  # the first is ComfyUI's own
NO_ALPHA = 64  # LoadImage gives a mask of 64x64 zeros for a picture without alpha


def frames_of(image: torch.Tensor) -> Iterator[NDArray[Any]]:
    """IMAGE [B, H, W, C] -> B arrays [H, W, C] in [0, 1], one by one: float16 as it is, else float32. Not to be written
    to: they are the image itself where they can be."""
    if image.ndim != 4:
        raise InputError(f"Expected an IMAGE [B, H, W, C], got {list(image.shape)}.")
    kept = image.dtype if image.dtype in (torch.float16, torch.float32) else torch.float32
    return (frame.detach().to("cpu", kept).numpy() for frame in image)


class Batch:
    """IMAGE [B, H, W, channels] and MASK [B, H, W], where ComfyUI keeps what passes between nodes: allocated once and
    filled frame by frame, since a film does not fit into memory twice."""

    def __init__(self, like: torch.Tensor, channels: int | None = None) -> None:
        """In the size and type of the IMAGE `like`."""
        device = management.intermediate_device()
        self.like = like
        self.image = torch.empty((*like.shape[:3], channels or like.shape[3]), dtype=like.dtype, device=device)
        self.mask = torch.zeros(like.shape[:3], device=device)
        self._count = 0

    def add(self, frame: NDArray[Any] | None, mask: NDArray[np.float32] | None) -> None:
        """The next frame [H, W, channels] and its mask [H, W]; None for what is as it was in `like`, and for zeros."""
        self.image[self._count] = self.like[self._count] if frame is None else torch.from_numpy(frame)
        if mask is not None:
            self.mask[self._count] = torch.from_numpy(mask)
        self._count += 1


def crop_of(crop: NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    """[S, S, 3] -> IMAGE [1, S, S, 3] in `like`'s type."""
    return torch.from_numpy(crop[None]).to(management.intermediate_device(), like.dtype)


def limits_of(mask: torch.Tensor | None, count: int) -> list[NDArray[np.float32] | None]:
    """MASK [B, H, W] or [H, W] -> one per frame; a single one counts for all. None where there is nothing to limit."""
    if mask is None:
        return [None] * count
    if mask.shape[-2:] == (NO_ALPHA, NO_ALPHA) and not mask.any():
        return [None] * count
    masks = list(mask.detach().float().cpu().reshape(-1, *mask.shape[-2:]).numpy())
    return _for_each(masks, count, "mask")


def partners_of(image: torch.Tensor | None, count: int, what: str) -> Iterable[NDArray[Any] | None]:
    """A second IMAGE, one picture for each frame; None where it is not connected."""
    if image is not None and len(image) != count:
        raise InputError(f"There are {count} images, but the {what} has {len(image)}. Each needs its own.")
    return [None] * count if image is None else frames_of(image)


def boxes_of(value: Any, shape: Sequence[int], box_format: str = "xywh") -> list[list[Box] | None]:
    """Boxes of any kind -> (x0, y0, x1, y1) for each frame of an IMAGE [B, H, W, C]; None where none are connected.

    One box or several, for every frame, or a list of such for each. A box is a mapping of x, y, width, height, or four
    numbers (a list, tuple, array or tensor; more than four are a score and the like), which `box_format` explains.
    Impact Pack's SEGS are a size and segments with corners. Raises `InputError` for anything else."""
    count = shape[0]
    if value is None:
        return [None] * count
    if _is_segs(value):
        return [_of_segs(value, shape)] * count
    value = _plain(value)
    if _is_box(value):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InputError(f"Expected bounding boxes, got {type(value).__name__}.")
    if any(isinstance(one, (list, tuple)) and not _is_box(one) for one in value):
        frames = [[one] if _is_box(one) else one for one in value]
        each = _for_each(frames, count, "list of bounding boxes")
        return [[_box(box, box_format) for box in boxes] for boxes in each]
    return [[_box(box, box_format) for box in value]] * count


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


def preview(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """[H, W, C] -> [H, W, 3]: the picture with each face's box and number."""
    from ..gpen_core import numbered  # OpenCV takes a fifth of a second, which ComfyUI's start is spared

    rgb = np.broadcast_to(frame[..., : 1 if frame.shape[2] < 3 else 3], (*frame.shape[:2], 3)).astype(np.float32)
    return np.asarray(numbered(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8), faces) / 255, np.float32)


def box_mask(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """[H, W]: 1 inside the faces' boxes."""
    mask: Any = np.zeros(frame.shape[:2], np.float32)
    for face in faces:
        if not np.isfinite(face.box).all():
            continue
        x0, y0, x1, y1 = (round(v) for v in face.box)
        mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 1
    return np.asarray(mask, np.float32)


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists, however deep."""
    if hasattr(value, "tolist") and not isinstance(value, (list, tuple, Mapping)):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _is_box(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) >= 4 and all(isinstance(one, (int, float)) for one in value[:4])
    return isinstance(value, Mapping)


def _is_segs(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (list, tuple))
    return is_pair and len(value[0]) == 2 and all(hasattr(seg, "bbox") for seg in value[1])


def _of_segs(segs: Any, shape: Sequence[int]) -> list[Box]:
    """SEGS know the size of the image that they were found in; it may have been enlarged since."""
    (height, width), segments = segs
    x, y = shape[2] / width, shape[1] / height
    boxes = (_box(_plain(seg.bbox), "xyxy") for seg in segments)
    return [(x0 * x, y0 * y, x1 * x, y1 * y) for x0, y0, x1, y1 in boxes]


def _box(box: Any, box_format: str) -> Box:
    try:
        if isinstance(box, Mapping):
            x, y, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
            return x, y, x + width, y + height
        x, y, right, bottom = (float(v) for v in box[:4])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Expected a bounding box with x, y, width and height, got {box!r}.") from error
    return (x, y, right, bottom) if box_format == "xyxy" else (x, y, x + right, y + bottom)


def _for_each(items: list[Any], count: int, what: str) -> list[Any]:
    if len(items) == count:
        return items
    if len(items) == 1:
        return items * count
    raise InputError(f"There are {count} images, but the {what} has {len(items)}. Give as many, or one for all.")

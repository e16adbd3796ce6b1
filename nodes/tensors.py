"""Conversion between ComfyUI's IMAGE and MASK and gpen_core's arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import comfy.model_management as management
import numpy as np
import torch
from numpy.typing import NDArray

from ..gpen_core import Face, InputError

log = logging.getLogger(__name__)

PLACEHOLDER_SIZE = (64, 64)  # of Load Image's mask
TOLERANCE = 1 / 255  # values outside 0-1 by less than this come from rounding or from sharp resize filters
OVERSHOOT = "the {what} has values from {low:g} to {high:g}. They are clipped to 0 to 1."


def iter_frames(
    image: torch.Tensor, name: str = "image", unit: str = "image", is_warned: bool = False
) -> Iterator[NDArray[Any]]:
    """Yield the frames of an IMAGE [B, H, W, C] as arrays [H, W, C] in [0, 1]: float16 stays, all else becomes float32.
    Do not write to them: they share memory with the image where possible.

    Values outside 0 to 1 are clipped, with one warning unless `is_warned`. Raises `InputError` if `image` is not an IMAGE
    or a frame has values that are not finite. The message names the frame by `unit` and number."""
    check_image(image)
    dtype = image.dtype if image.dtype in (torch.float16, torch.float32) else torch.float32
    for number, frame in enumerate(image):
        on_cpu = frame.device.type == "cpu"  # where torch 2.1 has no aminmax for half precision
        low, high = (float(value) for value in torch.aminmax(frame.float() if on_cpu else frame))
        if not np.isfinite((low, high)).all():
            label = f"{unit.capitalize()} {number} of the {'batch' if name == unit else name}"
            raise InputError(_not_finite_message(frame, label if len(image) > 1 else f"The {name}"))
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            if not is_warned:
                log.warning("GPEN: %s", OVERSHOOT.format(what=name, low=low, high=high))
            is_warned = True
            frame = frame.clamp(0, 1)
        yield frame.detach().to("cpu", dtype).numpy()


def check_image(image: torch.Tensor) -> None:
    """Raise `InputError` unless `image` is an IMAGE. Some nodes of other packs return one without the batch dimension."""
    if image.ndim != 4 or 0 in image.shape[1:]:
        raise InputError(f"Expected an IMAGE [B, H, W, C] with no side of zero, got {list(image.shape)}.")


def _not_finite_message(frame: torch.Tensor, label: str) -> str:
    count = int((~frame.isfinite()).any(-1).sum())
    return (
        f"{label} has values that are not finite (NaN or infinity) in {count} of {frame.shape[0] * frame.shape[1]} pixels. "
        "Check the node that it comes from; a VAE in half precision is a common cause."
    )


class OutputBatch:
    """IMAGE [B, H, W, channels] and MASK [B, H, W] on ComfyUI's intermediate device. They are allocated once and filled
    frame by frame, because a video may not fit into memory twice."""

    def __init__(self, like: torch.Tensor, channels: int | None = None) -> None:
        """Allocate in the size and dtype of the IMAGE `like`."""
        device = management.intermediate_device()
        self.like = like
        self.image = torch.empty((*like.shape[:3], channels or like.shape[3]), dtype=like.dtype, device=device)
        self.mask = torch.zeros(like.shape[:3], device=device)
        self._count = 0

    def add(self, frame: NDArray[Any], mask: NDArray[np.float32]) -> None:
        """Add the next frame [H, W, channels] and its mask [H, W]."""
        self.image[self._count] = _to_tensor(frame)
        self.mask[self._count] = _to_tensor(mask)
        self._count += 1

    def add_unchanged(self) -> None:
        """Copy the next frame from `like`, with a mask of zeros."""
        self.image[self._count] = self.like[self._count]
        self._count += 1

    def add_changed(self, frame: NDArray[Any], mask: NDArray[np.float32]) -> None:
        """Add the next frame: `frame` where `mask` is above 0, and `like` unchanged elsewhere."""
        at = self._count
        self.add_unchanged()
        self.mask[at] = _to_tensor(mask)
        changed = self.mask[at] > 0
        self.image[at][changed] = _to_tensor(frame).to(self.image)[changed]


def _to_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Convert an array. torch warns about read-only ones, such as masks that gpen_core keeps, so copy these."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def crop_to_image(crop: NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    """Convert a crop [S, S, 3] to an IMAGE [1, S, S, 3] with the dtype of `like`."""
    return _to_tensor(crop[None]).to(management.intermediate_device(), like.dtype)


def mask_to_tensor(mask: NDArray[np.float32], size: int) -> torch.Tensor:
    """Convert a mask [h, h] to a MASK [1, size, size]."""
    whole = _to_tensor(mask)[None, None]
    scaled = torch.nn.functional.interpolate(whole, (size, size), mode="bilinear", antialias=True)
    return scaled[0].to(management.intermediate_device())


def mask_array(mask: torch.Tensor) -> NDArray[np.float32]:
    """Convert a MASK [B, H, W] or [H, W] to an array [B, H, W]."""
    array: NDArray[np.float32] = mask.detach().float().cpu().reshape(-1, *mask.shape[-2:]).numpy()
    return array


def masks_for(mask: torch.Tensor | None, count: int) -> list[NDArray[np.float32] | None]:
    """Return one mask [H, W] per frame of a MASK [B, H, W] or [H, W]; a single mask applies to all frames. Each is None if
    no mask or Load Image's placeholder is connected."""
    if mask is None or is_placeholder(mask):
        return [None] * count
    return broadcast(list(mask_array(mask)), count, "masks")


def video_mask(mask: torch.Tensor | None, count: int | None = None) -> NDArray[np.float32] | None:
    """Return the mask [H, W] for all frames of a video, or masks [N, H, W] for each frame. None if no mask or Load Image's
    placeholder is connected. Raises `InputError` unless there are one or `count` masks."""
    if mask is None or is_placeholder(mask):
        return None
    masks = mask_array(mask)
    if count is not None and len(masks) not in (1, count):
        broadcast(list(masks), count, "masks", "frame")
    return masks[0] if len(masks) == 1 else masks


def is_placeholder(mask: torch.Tensor | None) -> bool:
    """Return whether this is the mask that Load Image returns for an image without transparency."""
    return mask is not None and tuple(mask.shape[-2:]) == PLACEHOLDER_SIZE and not mask.any()


def is_empty(mask: torch.Tensor | None) -> bool:
    """Return whether the connected mask is zero in all frames and is not the placeholder."""
    return mask is not None and not mask.any() and not is_placeholder(mask)


def paired_frames(image: torch.Tensor | None, count: int, name: str) -> Iterable[NDArray[Any] | None]:
    """Return one frame of a second IMAGE for each image, or None for each if it is not connected."""
    if image is not None and len(image) != count:
        raise InputError(f"Got a batch of {len(image)} as {name} for a batch of {count}. Connect one for each image.")
    return [None] * count if image is None else iter_frames(image, name)


def draw_preview(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """Draw each face's box and number: [H, W, C] -> [H, W, 3]."""
    from ..gpen_core import draw_faces  # imports OpenCV (0.2 s); imported late to keep ComfyUI's startup fast

    rgb = np.broadcast_to(frame[..., : 1 if frame.shape[2] < 3 else 3], (*frame.shape[:2], 3)).astype(np.float32)
    return np.asarray(draw_faces(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8), faces) / 255, np.float32)


def box_mask(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """Return a mask [H, W] that is 1 inside the faces' boxes."""
    mask: Any = np.zeros(frame.shape[:2], np.float32)
    for face in faces:
        if not np.isfinite(face.box).all():
            continue
        x0, y0, x1, y1 = (round(v) for v in face.box)
        mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 1
    return np.asarray(mask, np.float32)


def broadcast(items: list[Any], count: int, names: str, target: str = "image") -> list[Any]:
    """Return one item for each of `count` images (or crops). A single item is used for all. Raises `InputError`, which calls
    the items `names` (plural)."""
    if len(items) == count:
        return items
    if len(items) == 1:
        return items * count
    for_all = " or 1 (for all)" if count != 1 else ""
    raise InputError(f"Number of {names}: {len(items)}. Expected {count} (one for each {target}){for_all}.")

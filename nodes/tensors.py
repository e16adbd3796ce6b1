"""ComfyUI's IMAGE and MASK and what gpen_core takes and gives."""

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
TOLERANCE = 1 / 255  # so much beyond 0 and 1 is rounding, or a sharp filter's


def iter_frames(
    image: torch.Tensor, name: str = "image", unit: str = "image", is_warned: bool = False
) -> Iterator[NDArray[Any]]:
    """IMAGE [B, H, W, C] -> B arrays [H, W, C] in [0, 1], one by one: float16 as it is, else float32. Not to be written
    to: they are the image itself where they can be.

    Values beyond 0 and 1 are cut off there, which is warned of once, unless it `is_warned` already. Raises `InputError` for
    what is no IMAGE, and for one of the batch with values that are not finite, which it names by `unit` and number."""
    if image.ndim != 4 or 0 in image.shape[1:]:
        raise InputError(f"Expected an IMAGE [B, H, W, C] with no side of zero, got {list(image.shape)}.")
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


OVERSHOOT = "the {what} has values from {low:g} to {high:g}; faces are found and restored as if they were within 0 to 1."


def _not_finite_message(frame: torch.Tensor, label: str) -> str:
    count = int((~frame.isfinite()).any(-1).sum())
    return (
        f"{label} has values that are not finite (NaN or infinity) in {count} of {frame.shape[0] * frame.shape[1]} pixels. "
        "Expected numbers from 0 to 1: look at the node that it comes from. A VAE in half precision is often the cause."
    )


class OutputBatch:
    """IMAGE [B, H, W, channels] and MASK [B, H, W], where ComfyUI keeps what passes between nodes: allocated once and
    filled frame by frame, since a video does not fit into memory twice."""

    def __init__(self, like: torch.Tensor, channels: int | None = None) -> None:
        """In the size and type of the IMAGE `like`."""
        device = management.intermediate_device()
        self.like = like
        self.image = torch.empty((*like.shape[:3], channels or like.shape[3]), dtype=like.dtype, device=device)
        self.mask = torch.zeros(like.shape[:3], device=device)
        self._count = 0

    def add(self, frame: NDArray[Any], mask: NDArray[np.float32]) -> None:
        """The next frame [H, W, channels] and its mask [H, W]."""
        self.image[self._count] = torch.from_numpy(frame)
        self.mask[self._count] = torch.from_numpy(mask)
        self._count += 1

    def add_unchanged(self) -> None:
        """The next frame is as it was in `like`, its mask zero."""
        self.image[self._count] = self.like[self._count]
        self._count += 1

    def add_changed(self, frame: NDArray[Any], mask: NDArray[np.float32]) -> None:
        """The next frame is `frame` where its mask is above 0, and as it was in `like` elsewhere, whatever its values."""
        at = self._count
        self.add_unchanged()
        self.mask[at] = torch.from_numpy(mask)
        changed = self.mask[at] > 0
        self.image[at][changed] = torch.from_numpy(frame).to(self.image)[changed]


def crop_to_image(crop: NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    """[S, S, 3] -> IMAGE [1, S, S, 3] in `like`'s type."""
    return torch.from_numpy(crop[None]).to(management.intermediate_device(), like.dtype)


def mask_to_tensor(mask: NDArray[np.float32], size: int) -> torch.Tensor:
    """[h, h] -> MASK [1, size, size]."""
    whole = torch.from_numpy(mask)[None, None]
    scaled = torch.nn.functional.interpolate(whole, (size, size), mode="bilinear", antialias=True)
    return scaled[0].to(management.intermediate_device())


def masks_for(mask: torch.Tensor | None, count: int) -> list[NDArray[np.float32] | None]:
    """MASK [B, H, W] or [H, W] -> one per frame; a single one counts for all. None where there is nothing to limit: where
    no mask is connected, or Load Image's placeholder."""
    if mask is None or is_placeholder(mask):
        return [None] * count
    masks = list(mask.detach().float().cpu().reshape(-1, *mask.shape[-2:]).numpy())
    return broadcast(masks, count, "mask")


def mask_for(mask: torch.Tensor | None, name: str) -> NDArray[np.float32] | None:
    """The one mask [H, W] of all frames of a video; None where there is nothing to limit. Raises `InputError` for
    several."""
    if mask is not None and mask.ndim > 2 and len(mask) > 1 and not is_placeholder(mask):
        raise InputError(f"The mask has {len(mask)} frames. Expected one, which counts for all frames of the {name}.")
    return masks_for(mask, 1)[0]


def is_placeholder(mask: torch.Tensor | None) -> bool:
    """Whether it is what Load Image gives for an image without transparency."""
    return mask is not None and tuple(mask.shape[-2:]) == PLACEHOLDER_SIZE and not mask.any()


def is_empty(mask: torch.Tensor | None) -> bool:
    """Whether a mask is connected that is zero in all frames, and no placeholder."""
    return mask is not None and not mask.any() and not is_placeholder(mask)


def paired_frames(image: torch.Tensor | None, count: int, name: str) -> Iterable[NDArray[Any] | None]:
    """A second IMAGE, one image for each frame; None where it is not connected."""
    if image is not None and len(image) != count:
        raise InputError(f"There are {count} images, but the {name} has {len(image)}. Each needs its own.")
    return [None] * count if image is None else iter_frames(image, name)


def draw_preview(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """[H, W, C] -> [H, W, 3]: the image with each face's box and number."""
    from ..gpen_core import draw_faces  # OpenCV takes a fifth of a second, which ComfyUI's start is spared

    rgb = np.broadcast_to(frame[..., : 1 if frame.shape[2] < 3 else 3], (*frame.shape[:2], 3)).astype(np.float32)
    return np.asarray(draw_faces(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8), faces) / 255, np.float32)


def box_mask(frame: NDArray[Any], faces: Sequence[Face]) -> NDArray[np.float32]:
    """[H, W]: 1 inside the faces' boxes."""
    mask: Any = np.zeros(frame.shape[:2], np.float32)
    for face in faces:
        if not np.isfinite(face.box).all():
            continue
        x0, y0, x1, y1 = (round(v) for v in face.box)
        mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 1
    return np.asarray(mask, np.float32)


def broadcast(items: list[Any], count: int, name: str, targets: str = "images") -> list[Any]:
    """One item for each of `count` images (or squares): as many, or a single one for all. Raises `InputError`."""
    if len(items) == count:
        return items
    if len(items) == 1:
        return items * count
    raise InputError(f"There are {count} {targets}, but the {name} has {len(items)}. Give as many, or one for all.")

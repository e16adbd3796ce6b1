"""Paste Faces (GPEN)."""

from __future__ import annotations

from typing import Any, TypeVar

import comfy.model_management as management
import torch

from ..gpen_core import InputError
from . import inputs, tensors
from .comfy import ComfyNode, NodeOutput, PlacementsType, io, schema
from .crop import GpenPlacements

Item = TypeVar("Item")


class PasteFaces(ComfyNode):
    """Paste the crops of Crop Faces (GPEN) back into their images."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_PasteFaces",
            display_name="Paste Faces (GPEN)",
            category="image/face",
            description="Pastes the crops of Crop Faces (GPEN) back into their images and blends them like restored faces. "
            "An unedited crop changes nothing.",
            search_aliases=["paste face", "uncrop face", "face composite", "stitch faces"],
            is_input_list=True,  # crops and masks come as a batch or as a list
            inputs=[
                io.Image.Input(
                    "image", tooltip="The images that the faces were cropped from, or the same images in another size."
                ),
                io.Image.Input(
                    "crops",
                    tooltip="The edited crops in their original order, as a batch or a list. They may have any size "
                    "but must be square.",
                ),
                PlacementsType.Input("placements", tooltip="From Crop Faces (GPEN)."),
                inputs.strength(),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="Masks to use instead of the crops' own. A single mask applies to all crops.",
                ),
                inputs.region_mask(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The images with the crops pasted in."),
                io.Mask.Output(display_name="face_mask", tooltip="Blend mask of the pasted faces. It is 0 outside them."),
                io.Int.Output(display_name="count", tooltip="Number of faces pasted in all images."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: list[torch.Tensor],
        crops: list[torch.Tensor],
        placements: list[GpenPlacements],
        strength: list[float],
        masks: list[torch.Tensor] | None = None,
        region_mask: list[torch.Tensor] | None = None,
    ) -> NodeOutput:
        """Every input is a list; ComfyUI wraps single values. Raises `InputError` for mismatched counts or sizes."""
        from ..gpen_core import paste_faces

        images, places = _single(image, "image"), _single(placements, "placements")
        if len(images) != len(places.frames):
            raise InputError(
                f"Got a batch of {len(images)} for crops from a batch of {len(places.frames)}. Connect the same images."
            )
        squares = _squares(crops, len(places))
        own_masks = _masks(masks, len(places))
        batch, start, count = tensors.OutputBatch(images), 0, 0
        regions = tensors.masks_for(None if region_mask is None else _single(region_mask, "region mask"), len(images))
        for frame, region, some in zip(tensors.iter_frames(images), regions, places.frames):
            management.throw_exception_if_processing_interrupted()
            part = slice(start, start + len(some))
            start += len(some)
            pasted = paste_faces(frame, some, squares[part], own_masks[part], strength[0], region)
            count += len(some) - len(pasted.skipped)
            if pasted.mask.any():
                batch.add_changed(pasted.image_data.to_input_type(), pasted.mask)
            else:
                batch.add_unchanged()
        return NodeOutput(batch.image, batch.mask, count)


def _single(values: list[Item], name: str) -> Item:
    if len(values) != 1:
        raise InputError(f"Expected one {name}, got a list of {len(values)}. Connect a batch.")
    return values[0]


def _squares(crops: list[torch.Tensor], count: int) -> list[Any]:
    """Return one crop [S, S, C] per face. Without faces, ignore the gray crop that Crop Faces (GPEN) returns."""
    if not count:
        return []
    squares = [square for some in crops for square in tensors.iter_frames(some, "crops")]
    if len(squares) != count:
        raise InputError(f"Expected one crop per face ({count}), got {len(squares)}.")
    return squares


def _masks(masks: list[torch.Tensor] | None, count: int) -> list[Any]:
    """Return one mask [h, w] per crop, or None for each if no masks are connected or there are no crops."""
    if masks is None or not count:
        return [None] * count
    each = [one for some in masks for one in some.detach().float().cpu().reshape(-1, *some.shape[-2:]).numpy()]
    return tensors.broadcast(each, count, "masks", "crop")

"""Paste Faces (GPEN)."""

from __future__ import annotations

from typing import Any, TypeVar

import comfy.model_management as management
import torch

from ..gpen_core import InputError
from . import inputs, tensors
from .comfy import ComfyNode, CropsType, NodeOutput, io, schema
from .crop import GpenCrops

Item = TypeVar("Item")


class PasteFaces(ComfyNode):
    """Puts such squares back."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_PasteFaces",
            display_name="Paste Faces (GPEN)",
            category="image/face",
            description="Puts the squares of Crop Faces (GPEN) back into their images, blended as restored faces are. A "
            "square that was not touched changes nothing.",
            search_aliases=["paste face", "uncrop face", "face composite", "stitch faces"],
            is_input_list=True,  # squares and masks come as a batch or as a list
            inputs=[
                io.Image.Input("image", tooltip="The images that the faces were taken from, or the same in another size."),
                CropsType.Input("crops", tooltip="From Crop Faces (GPEN)."),
                io.Image.Input(
                    "faces",
                    tooltip="The squares after any work, in their order, a batch or a list; of any size, but still square.",
                ),
                inputs.strength(1.0),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="For each square how much of it is taken, in place of its own mask; or one for all.",
                ),
                inputs.region_mask(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The images with the faces put back."),
                io.Mask.Output(display_name="face_mask", tooltip="How much of each pixel is new; zero where nothing is."),
                io.Int.Output(display_name="count", tooltip="Faces put back in all images together."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: list[torch.Tensor],
        crops: list[GpenCrops],
        faces: list[torch.Tensor],
        strength: list[float],
        masks: list[torch.Tensor] | None = None,
        region_mask: list[torch.Tensor] | None = None,
    ) -> NodeOutput:
        """Every input is a list, which ComfyUI makes of single values. Raises `InputError` for what does not fit."""
        from ..gpen_core import paste_faces

        images, gpen_crops = _single(image, "image"), _single(crops, "crops")
        if len(images) != len(gpen_crops.frames):
            raise InputError(
                f"There are {len(images)} images, but the crops are of {len(gpen_crops.frames)}. Give the same images."
            )
        squares = _squares(faces, len(gpen_crops))
        own_masks = _masks(masks, len(gpen_crops))
        batch, start, count = tensors.OutputBatch(images), 0, 0
        regions = tensors.masks_for(None if region_mask is None else _single(region_mask, "region mask"), len(images))
        for frame, region, some in zip(tensors.iter_frames(images), regions, gpen_crops.frames):
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


def _squares(faces: list[torch.Tensor], count: int) -> list[Any]:
    """One [S, S, C] for each; where there are none, what stands in for them is not looked at."""
    if not count:
        return []
    squares = [square for some in faces for square in tensors.iter_frames(some, "faces")]
    if len(squares) != count:
        raise InputError(f"There are {count} faces to paste, but {len(squares)} crops. Each face needs its own.")
    return squares


def _masks(masks: list[torch.Tensor] | None, count: int) -> list[Any]:
    """One [h, w] for each square; none where no masks are connected, or no squares there."""
    if masks is None or not count:
        return [None] * count
    each = [one for some in masks for one in some.detach().float().cpu().reshape(-1, *some.shape[-2:]).numpy()]
    return tensors.broadcast(each, count, "masks", "squares")

"""Paste Faces (GPEN)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Any

import comfy.model_management as management
import torch

from ..gpen_core import InputError
from . import inputs, tensors
from .comfy import ComfyNode, NodeOutput, PlacementsType, io, schema
from .crop import GpenPlacements


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
            is_input_list=True,  # crops and masks come as a batch or as a list; images of several sizes come as a list
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The images that the faces were cropped from, or the same images in another size. A list of "
                    "images needs the list of their placements.",
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
                io.Image.Output(display_name="image", is_output_list=True, tooltip="The images with the crops pasted in."),
                io.Mask.Output(
                    display_name="face_mask",
                    is_output_list=True,
                    tooltip="Blend mask of the pasted faces. It is 0 outside them.",
                ),
                io.Int.Output(
                    display_name="count", is_output_list=True, tooltip="Number of faces pasted, for each image or batch."
                ),
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
        """Every input is a list; ComfyUI wraps single values. `image` and `placements` have one item for each run of Crop
        Faces (GPEN). Raises `InputError` for mismatched counts or sizes."""
        runs = len(placements)
        if len(image) != runs:
            raise InputError(f"Got {len(image)} images or batches for crops from {runs}. Connect the same images.")
        counts = [len(places) for places in placements]
        squares = _squares(crops, counts)
        own_masks = _masks(masks, counts)
        regions = tensors.broadcast(region_mask or [None], runs, "region masks")
        strengths = tensors.broadcast(strength, runs, "strengths")
        pasted = [_paste(*one, squares, own_masks) for one in zip(image, placements, regions, strengths)]
        return NodeOutput(*map(list, zip(*pasted)))


def _paste(
    images: torch.Tensor,
    places: GpenPlacements,
    region_mask: torch.Tensor | None,
    strength: float,
    squares: Iterator[Any],
    masks: Iterator[Any],
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Paste the next `squares` with their `masks` into a batch. Return the images, the blend masks and the number of faces
    pasted."""
    from ..gpen_core import paste_faces

    if len(images) != len(places.frames):
        raise InputError(
            f"Got a batch of {len(images)} for crops from a batch of {len(places.frames)}. Connect the same images."
        )
    batch, count = tensors.OutputBatch(images), 0
    regions = tensors.masks_for(region_mask, len(images))
    for frame, region, some in zip(tensors.iter_frames(images), regions, places.frames):
        management.throw_exception_if_processing_interrupted()
        own_squares, own_masks = (list(islice(one, len(some))) for one in (squares, masks))
        pasted = paste_faces(frame, some, own_squares, own_masks, strength, region)
        count += len(some) - len(pasted.skipped)
        if pasted.mask.any():
            batch.add_changed(pasted.image_data.to_input_type(), pasted.mask)
        else:
            batch.add_unchanged()
    return batch.image, batch.mask, count


def _squares(crops: Sequence[torch.Tensor], counts: Sequence[int]) -> Iterator[Any]:
    """Yield the crop [S, S, C] of each face. `counts`: the number of faces of each run of Crop Faces (GPEN)."""
    squares = [square for some in crops for square in tensors.iter_frames(some, "crops")] if any(counts) else []
    faces = _without_placeholders(squares, counts)
    if len(faces) != sum(counts):
        raise InputError(f"Expected one crop per face ({sum(counts)}), got {len(faces)}.")
    return iter(faces)


def _masks(masks: Sequence[torch.Tensor] | None, counts: Sequence[int]) -> Iterator[Any]:
    """Yield the mask [h, w] of each crop, or None if no masks are connected."""
    if masks is None or not any(counts):
        return repeat(None)
    each = [one for some in masks for one in tensors.mask_array(some)]
    return iter(tensors.broadcast(_without_placeholders(each, counts), sum(counts), "masks", "crop"))


def _without_placeholders(items: list[Any], counts: Sequence[int]) -> list[Any]:
    """Leave out the items that Crop Faces (GPEN) returns for runs without faces, so that later nodes still run."""
    if 0 not in counts or len(items) != sum(max(1, count) for count in counts):
        return items
    rest = iter(items)
    return [one for count in counts for one in islice(rest, max(1, count)) if count]

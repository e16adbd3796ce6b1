"""Clean Up Face Swap (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from . import inputs, outputs, tensors
from .comfy import GpenModelType, NodeOutput, io, schema
from .model import GpenModel
from .restore_base import RestoreNodeBase

DEFAULT_STRENGTH = 0.8  # a swapped face keeps some of the look that the swap gave it


class CleanUpFaceSwap(RestoreNodeBase):
    """Restores those faces that a face swap changed."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_CleanUpFaceSwap",
            display_name="Clean Up Face Swap (GPEN)",
            category="image/face",
            description="Restores only the faces that differ between the original and the swapped image, whatever made the "
            "swap: ReActor, FaceFusion or another.",
            search_aliases=["face swap", "reactor", "facefusion", "inswapper", "swap cleanup", "restore swapped faces"],
            inputs=[
                GpenModelType.Input("model", lazy=True, tooltip="From Load GPEN Model."),
                io.Image.Input("swapped", tooltip="After the swap; it may have been upscaled since."),
                io.Image.Input(
                    "before_swap",
                    tooltip="Before the swap: what went into it (newer ReActor nodes give it as third output).",
                ),
                inputs.strength(DEFAULT_STRENGTH),
                *inputs.selection(),
                *inputs.appearance(),
                inputs.region_mask(),
                *inputs.advanced_selection(),
                *inputs.advanced_appearance(),
            ],
            outputs=outputs.restore_outputs(),
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        swapped: torch.Tensor,
        before_swap: torch.Tensor,
        model: GpenModel | None = None,
        region_mask: torch.Tensor | None = None,
        **values: Any,
    ) -> NodeOutput:
        """`values` are those of the other inputs. Raises `GpenError` for what cannot be (`InputError`, `OptionsError`,
        `MissingWeights`), torch's out of memory error, on which ComfyUI makes room, and ComfyUI's own when interrupted."""
        from ..gpen_core import RestoreInput  # brings OpenCV, which ComfyUI's start is spared

        count = len(swapped)
        parts = zip(
            tensors.iter_frames(swapped),
            tensors.paired_frames(before_swap, count, "before_swap"),
            tensors.masks_for(region_mask, count),
        )
        frames = (RestoreInput(image, before, None, region) for image, before, region in parts)
        return cls.restore(model, inputs.restore_options(**values), swapped, frames, region_mask)

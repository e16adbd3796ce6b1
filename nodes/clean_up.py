"""Clean Up Face Swap (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from . import inputs, outputs, tensors
from .comfy import GpenModelType, NodeOutput, io, schema
from .model import GpenModel
from .restore_base import RestoringNode

STRENGTH = 0.8  # a swapped face keeps some of the look that the swap gave it


class CleanUpFaceSwap(RestoringNode):
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
                inputs.strength(STRENGTH),
                *inputs.selection(),
                *inputs.appearance(),
                inputs.region_mask(),
                *inputs.more_selection(),
                *inputs.more_appearance(),
            ],
            outputs=outputs.of_restoring(),
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
        from ..gpen_core import Frame  # brings OpenCV, which ComfyUI's start is spared

        count = len(swapped)
        parts = zip(
            tensors.frames_of(swapped),
            tensors.partners_of(before_swap, count, "before_swap"),
            tensors.limits_of(region_mask, count),
        )
        frames = (Frame(picture, before, None, region) for picture, before, region in parts)
        return cls.restore(model, inputs.options(**values), swapped, frames, region_mask)

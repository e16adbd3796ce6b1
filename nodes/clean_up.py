"""Clean Up Face Swap (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from . import inputs, outputs
from .comfy import NodeOutput, io, schema
from .restore_base import RestoreNodeBase

DEFAULT_STRENGTH = 0.8  # a swapped face keeps some of the look that the swap gave it


class CleanUpFaceSwap(RestoreNodeBase):
    """Restore only the faces that a face swap changed."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_CleanUpFaceSwap",
            display_name="Clean Up Face Swap (GPEN)",
            category="image/face",
            description="Restores only the faces that a face swap changed. It works after ReActor, FaceFusion and any other "
            "swapper.",
            search_aliases=["face swap", "reactor", "facefusion", "inswapper", "swap cleanup", "restore swapped faces"],
            inputs=[
                io.Image.Input("swapped", tooltip="The image after the face swap. It may be upscaled."),
                io.Image.Input(
                    "before_swap",
                    tooltip="The image before the face swap: the input of the swapper. Recent ReActor nodes return it as "
                    "their third output.",
                ),
                inputs.model(),
                inputs.strength(DEFAULT_STRENGTH),
                inputs.faces(),
                inputs.region_mask(),
                inputs.gpen_model(),
                inputs.face_options(),
                inputs.look_options(),
            ],
            outputs=outputs.restore_outputs(),
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, swapped: torch.Tensor, before_swap: torch.Tensor, **values: Any) -> NodeOutput:
        """`values` holds the other inputs. Raises the same errors as Restore Faces (GPEN)."""
        return cls.restore(swapped, before_swap=before_swap, **values)

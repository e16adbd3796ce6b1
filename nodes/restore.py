"""Restore Faces (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from . import inputs, outputs
from .comfy import NodeOutput, io, schema
from .restore_base import RestoreNodeBase


class RestoreFaces(RestoreNodeBase):
    """Find the faces of images and restore them."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_RestoreFaces",
            display_name="Restore Faces (GPEN)",
            category="image/face",
            description="Finds the faces in an image and restores them with GPEN. The rest of the image does not change.",
            search_aliases=[
                "face restoration",
                "face restore",
                "restore",
                "fix faces",
                "face enhance",
                "enhance face",
                "upscale face",
                "face detailer",
                "old photo",
                "gpen",
                "gfpgan",
                "codeformer",
                "facerestore",
            ],
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch. Frames of a video belong in Restore Video (GPEN)."),
                inputs.model(),
                inputs.strength(),
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
    def execute(cls, image: torch.Tensor, **values: Any) -> NodeOutput:
        """`values` holds the other inputs. Raises `InputError`, `OptionsError`, `MissingWeights`, torch's out of memory
        error, which makes ComfyUI free memory, and ComfyUI's own exception when interrupted."""
        return cls.restore(image, **values)

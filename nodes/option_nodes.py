"""Face Options (GPEN) and Look Options (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from ..gpen_core import RestoreOptions, VideoOptions
from . import boxes, inputs
from .comfy import AnyBoundingBoxes, ComfyNode, FaceOptionsType, LookOptionsType, NodeOutput, io, schema
from .options import FaceOptions, LookOptions


class FaceOptionsNode(ComfyNode):
    """Set which faces are restored and how they are found."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_FaceOptions",
            display_name="Face Options (GPEN)",
            category="image/face",
            description="Sets which faces are restored and how they are found. Connect it to any GPEN "
            "node that finds faces.",
            search_aliases=["gpen options", "face selection", "face order", "face detection options", "bbox"],
            inputs=[
                *inputs.option_inputs(RestoreOptions, "selection", "detection", without=("faces",)),
                *inputs.option_inputs(VideoOptions, names=("min_duration", "join_people")),
                io.Combo.Input(
                    "box_format",
                    options=list(boxes.FORMATS),
                    default=boxes.FORMATS[0],
                    tooltip="Format of plain four-number boxes: x, y, width, height, or the corners x0, y0, x1, y1. SEGS "
                    "and named boxes are recognized automatically.",
                ),
                io.Boolean.Input(
                    "aligned",
                    default=False,
                    tooltip="The image is already an aligned face crop, as from Crop Faces (GPEN). Detection is skipped.",
                ),
                AnyBoundingBoxes.Input(
                    "bboxes",
                    optional=True,
                    tooltip="Boxes from any detector, or Impact Pack's SEGS. Only faces that overlap a box by at least half "
                    "are restored. Boxes without a face are searched again at higher resolution.",
                    extra_dict={"forceInput": True},
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="A photo of one person, or a batch of photos of that person. Only faces of this person are "
                    "restored. Needs SFace (39 MB), which is downloaded on first use.",
                ),
                io.Image.Input(
                    "leave_out",
                    optional=True,
                    tooltip="A photo of one person, or a batch of photos of that person. Faces of this person are skipped.",
                ),
            ],
            outputs=[FaceOptionsType.Output(display_name="face_options", tooltip="For the other GPEN nodes.")],
        )

    @classmethod
    def execute(
        cls,
        bboxes: Any = None,
        box_format: str = boxes.FORMATS[0],
        aligned: bool = False,
        reference: torch.Tensor | None = None,
        leave_out: torch.Tensor | None = None,
        **values: Any,
    ) -> NodeOutput:
        """`values` holds the options by name."""
        return NodeOutput(FaceOptions(values, bboxes, box_format, aligned, reference, leave_out))


class LookOptionsNode(ComfyNode):
    """Set how restored faces look."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_LookOptions",
            display_name="Look Options (GPEN)",
            category="image/face",
            description="Sets how restored faces look and how they are blended in. Connect it to any GPEN node that "
            "restores faces.",
            search_aliases=["gpen options", "face mask", "face color", "film grain", "preserve eyes"],
            inputs=[
                *inputs.option_inputs(RestoreOptions, "look", without=("strength",)),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="The same image, upscaled by any node. Faces are restored from the original image and pasted "
                    "into this one.",
                ),
            ],
            outputs=[LookOptionsType.Output(display_name="look_options", tooltip="For the other GPEN nodes.")],
        )

    @classmethod
    def execute(cls, background: torch.Tensor | None = None, **values: Any) -> NodeOutput:
        """`values` holds the options by name."""
        return NodeOutput(LookOptions(values, background))

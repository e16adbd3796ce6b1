"""Detect Faces (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from ..gpen_core import RestoreOptions
from . import boxes, inputs, tensors
from .comfy import BoundingBoxes, ComfyNode, GpenModelType, NodeOutput, io, schema, ui
from .model import GpenModel


class DetectFaces(ComfyNode):
    """Finds and numbers faces, so that some can be chosen."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_DetectFaces",
            display_name="Detect Faces (GPEN)",
            category="image/face",
            description="Finds faces and shows their numbers, as Restore Faces (GPEN) counts them.",
            is_output_node=True,  # it shows its preview on its own
            search_aliases=["face detection", "find faces", "face boxes", "retinaface", "face mask", "bbox"],
            inputs=[
                GpenModelType.Input("model", tooltip="From Load GPEN Model; only its detector is used."),
                io.Image.Input("image", tooltip="One image or a batch."),
                *inputs.detection(),
                *inputs.advanced_detection(),
            ],
            outputs=[
                BoundingBoxes.Output(
                    display_name="bboxes", tooltip="Per image a list of x, y, width, height, label (the number) and score."
                ),
                io.Mask.Output(display_name="mask", tooltip="1 inside the boxes."),
                io.Image.Output(display_name="preview", tooltip="The image with boxes and numbers."),
                io.Int.Output(display_name="count", tooltip="Faces in all images together."),
            ],
        )

    @classmethod
    def execute(cls, model: GpenModel, image: torch.Tensor, **values: Any) -> NodeOutput:
        """`values` are those of the inputs about detection. Raises `InputError` for what is no IMAGE, `OptionsError` for
        values that cannot be, and torch's out of memory error, on which ComfyUI makes room."""
        batch = tensors.OutputBatch(image, channels=3)
        found = []
        for frame, faces in model.detect(tensors.iter_frames(image), len(image), RestoreOptions(**values)):
            batch.add(tensors.draw_preview(frame, faces), tensors.box_mask(frame, faces))
            found.append(boxes.to_bounding_boxes(faces))
        shown = ui.PreviewImage(batch.image, cls=cls) if found else None
        return NodeOutput(found, batch.mask, batch.image, sum(map(len, found)), ui=shown)

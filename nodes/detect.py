"""Detect Faces (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from . import boxes, inputs, loading, tensors
from .comfy import BoundingBoxes, ComfyNode, NodeOutput, io, schema, ui
from .host_progress import NodeProgress
from .model import GpenModel
from .options import FaceOptions, LookOptions, refuse_image_inputs, restore_options


class DetectFaces(ComfyNode):
    """Finds and numbers faces, so that some can be chosen."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_DetectFaces",
            display_name="Detect Faces (GPEN)",
            category="image/face",
            description="Finds faces and shows their numbers. With the same Face Options (GPEN), the restoring nodes "
            "use the same numbers.",
            is_output_node=True,  # it shows its preview on its own
            search_aliases=["face detection", "find faces", "face boxes", "retinaface", "face mask", "bbox"],
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch."),
                inputs.detector_model(),
                inputs.face_options(),
            ],
            outputs=[
                BoundingBoxes.Output(
                    display_name="bboxes", tooltip="Per image a list of x, y, width, height, label (the number) and score."
                ),
                io.Mask.Output(display_name="mask", tooltip="1 inside the boxes."),
                io.Image.Output(display_name="preview", tooltip="The image with boxes and numbers."),
                io.Int.Output(display_name="count", tooltip="Faces in all images together."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, gpen_model: GpenModel | None = None, face_options: FaceOptions | None = None
    ) -> NodeOutput:
        """Raises `InputError` for what is no IMAGE, `OptionsError` for options that it cannot follow, and torch's out of
        memory error, on which ComfyUI makes room."""
        face = face_options or FaceOptions()
        refuse_image_inputs(face, LookOptions(), "Detect Faces (GPEN) looks for faces in the whole image.")
        batch = tensors.OutputBatch(image, channels=3)
        found = []
        options = restore_options(face, LookOptions())
        with NodeProgress(cls.hidden.unique_id) as reporter:
            model = loading.linked_or_any(gpen_model, reporter)
            for frame, faces in model.detect(tensors.iter_frames(image), len(image), options):
                batch.add(tensors.draw_preview(frame, faces), tensors.box_mask(frame, faces))
                found.append(boxes.to_bounding_boxes(faces))
        shown = ui.PreviewImage(batch.image, cls=cls) if found else None
        return NodeOutput(found, batch.mask, batch.image, sum(map(len, found)), ui=shown)

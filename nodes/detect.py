"""Detect Faces (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from . import boxes, inputs, loading, tensors
from .comfy import BoundingBoxes, ComfyNode, NodeOutput, io, schema, ui
from .host_progress import NodeProgress
from .model import GpenModel
from .options import FaceOptions, LookOptions, merge_restore_options, refuse_image_inputs


class DetectFaces(ComfyNode):
    """Find and number faces, so that users can select some of them."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_DetectFaces",
            display_name="Detect Faces (GPEN)",
            category="image/face",
            description="Finds faces and shows their numbers. Restoring nodes with the same Face Options (GPEN) use "
            "the same numbers.",
            is_output_node=True,  # shows its preview without a further node
            search_aliases=["face detection", "find faces", "face boxes", "retinaface", "face mask", "bbox"],
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch."),
                inputs.detector_model(),
                inputs.face_options(),
            ],
            outputs=[
                BoundingBoxes.Output(
                    display_name="bboxes",
                    tooltip="Bounding boxes of each image: x, y, width, height, label (the face number) and score.",
                ),
                io.Mask.Output(display_name="mask", tooltip="1 inside the bounding boxes, 0 elsewhere."),
                io.Image.Output(display_name="preview", tooltip="The image with bounding boxes and face numbers."),
                io.Int.Output(display_name="count", tooltip="Number of faces in all images."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, gpen_model: GpenModel | None = None, face_options: FaceOptions | None = None
    ) -> NodeOutput:
        """Raises `InputError` if `image` is not an IMAGE, and `OptionsError` for unsupported options. Raises torch's out of
        memory error, which makes ComfyUI free memory."""
        face = face_options or FaceOptions()
        refuse_image_inputs(face, LookOptions(), "Detect Faces (GPEN) searches the whole image.")
        batch = tensors.OutputBatch(image, channels=3)
        found = []
        options = merge_restore_options(face, LookOptions())
        with NodeProgress(cls.hidden.unique_id) as reporter:
            model = loading.linked_or_any(gpen_model, reporter)
            for frame, faces in model.detect(tensors.iter_frames(image), len(image), options, reporter):
                batch.add(tensors.draw_preview(frame, faces), tensors.box_mask(frame, faces))
                found.append(boxes.to_bounding_boxes(faces))
        shown = ui.PreviewImage(batch.image, cls=cls) if found else None
        return NodeOutput(found, batch.mask, batch.image, sum(map(len, found)), ui=shown)

"""Crop Faces (GPEN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch

from . import boxes, inputs, outputs, tensors
from .comfy import ComfyNode, CropsType, GpenModelType, NodeOutput, io, schema, ui
from .model import GpenModel

if TYPE_CHECKING:
    from ..gpen_core import Face, FaceCrop

DEFAULT_SIZE = 512  # pixels: what diffusion models of the first generation work at


@dataclass
class GpenCrops:
    """Where the squares of a Crop Faces (GPEN) belong."""

    frames: list[tuple[FaceCrop, ...]] = field(default_factory=list)
    """Of each image, in order; the squares of all follow one another."""

    def __len__(self) -> int:
        return sum(map(len, self.frames))


class CropFaces(ComfyNode):
    """Takes faces out, upright, so that anything can be done to them."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_CropFaces",
            display_name="Crop Faces (GPEN)",
            category="image/face",
            description="Takes the faces out of images as upright squares of one size. After any work on them, Paste Faces "
            "(GPEN) puts them back.",
            search_aliases=["face crop", "align faces", "extract faces", "face detailer", "cropface"],
            inputs=[
                GpenModelType.Input("model", tooltip="From Load GPEN Model; its detector finds the faces."),
                io.Image.Input("image", tooltip="One image or a batch."),
                io.Int.Input(
                    "size",
                    default=DEFAULT_SIZE,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Side of the squares in pixels. GPEN's own sizes are 256, 512, 1024 and 2048.",
                ),
                *inputs.selection(),
                inputs.mask_type(),
                inputs.region_mask(),
                inputs.boxes_input(),
                *inputs.advanced_selection(),
                inputs.box_format(),
            ],
            outputs=[
                CropsType.Output(display_name="crops", tooltip="Where the squares belong: for Paste Faces (GPEN)."),
                io.Image.Output(
                    display_name="faces",
                    tooltip="The squares of all images, one batch. With no face, a gray one, so that what follows runs.",
                ),
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="For each square how much of it belongs to the face; a list.",
                ),
                io.Int.Output(display_name="count", tooltip="Squares in all images together."),
                io.String.Output(display_name="summary", tooltip="Faces found, taken out, and left alone with the reason."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: GpenModel,
        image: torch.Tensor,
        size: int,
        region_mask: torch.Tensor | None = None,
        bboxes: Any = None,
        box_format: str = boxes.FORMATS[0],
        **values: Any,
    ) -> NodeOutput:
        """`values` are those of the other inputs. Raises as Restore Faces (GPEN) does."""
        from ..gpen_core import RestoreInput  # brings OpenCV, which ComfyUI's start is spared

        count = len(image)
        parts = zip(
            tensors.iter_frames(image),
            tensors.masks_for(region_mask, count),
            boxes.parse_boxes(bboxes, image.shape, box_format),
        )
        frames = (RestoreInput(picture, None, None, region, within) for picture, region, within in parts)
        crops, squares, masks, faces = GpenCrops(), [], [], []
        for one in model.crop(frames, count, inputs.restore_options(strength=1.0, color="none", **values), size):
            crops.frames.append(one.crops)
            squares += [tensors.crop_to_image(pixels, image) for pixels in one.pixels]
            masks += [tensors.mask_to_tensor(crop.mask, size) for crop in one.crops]
            faces.append(_mark_cropped(one.faces, one.crops))
        text = outputs.summary(faces, verb="taken out")
        text = "\n".join([text, *outputs.format_notes(region_mask)])
        squares = squares or [torch.full((1, size, size, 3), 0.5, device=management.intermediate_device())]
        masks = masks or [torch.zeros((1, size, size), device=management.intermediate_device())]
        return NodeOutput(crops, torch.cat(squares), masks, len(crops), text, ui=ui.PreviewText(text))


def _mark_cropped(faces: Sequence[Face], crops: Sequence[FaceCrop]) -> list[Face]:
    numbers = {crop.number for crop in crops}
    return [replace(face, restored=number in numbers) for number, face in enumerate(faces)]

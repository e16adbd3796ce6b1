"""Crop Faces (GPEN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch

from ..gpen_core import OptionsError, RestoreOptions
from . import inputs, loading, outputs, tensors
from .comfy import ComfyNode, NodeOutput, PlacementsType, io, schema, ui
from .host_progress import NodeProgress
from .model import GpenModel
from .options import FaceOptions, LookOptions, merge_restore_options
from .restore_base import make_inputs

if TYPE_CHECKING:
    from ..gpen_core import Face, FaceCrop, FaceCrops

NO_BACKGROUND = "Crop Faces (GPEN) does not support a background. Connect the upscaled image to Paste Faces (GPEN) as image."
UNUSED_LOOK = {"color": "none", "fidelity": 0.0, "grain": 0.0, "min_identity": 0.0}
"""The look options that only change restored faces, with the values at which they do nothing and need no weights."""
PLACEHOLDER = "No face was cropped: crops is one gray image, so that later nodes still run. Paste Faces (GPEN) ignores it."
UNUSED = "Not used here, because cropped faces are not restored: {names} of Look Options (GPEN)."
DEFAULTS = RestoreOptions()
DEFAULT_SIZE = 512  # px: the native size of Stable Diffusion 1.x


@dataclass
class GpenPlacements:
    """Positions of the crops of one Crop Faces (GPEN) run."""

    frames: list[tuple[FaceCrop, ...]] = field(default_factory=list)
    """The crops of each image, in order. The batch of crops concatenates them."""

    def __len__(self) -> int:
        return sum(map(len, self.frames))


class CropFaces(ComfyNode):
    """Crop faces as upright squares, for editing with any nodes."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_CropFaces",
            display_name="Crop Faces (GPEN)",
            category="image/face",
            description="Crops the faces of images as upright squares of one size. Edit them with any nodes, then put them "
            "back with Paste Faces (GPEN).",
            search_aliases=["face crop", "align faces", "extract faces", "face detailer", "cropface"],
            inputs=[
                io.Image.Input("image", tooltip="One image or a batch."),
                io.Int.Input(
                    "size",
                    default=DEFAULT_SIZE,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip=inputs.with_range(
                        "Width and height of the crops in pixels. GPEN networks use 256, 512, 1024 or 2048.", "64 to 4096 px"
                    ),
                ),
                inputs.faces(),
                inputs.region_mask(),
                inputs.detector_model(),
                inputs.face_options(),
                inputs.look_options(UNUSED_LOOK),
            ],
            outputs=[
                io.Image.Output(
                    display_name="crops",
                    tooltip="The crops of all images as one batch. If no face is found, one gray crop, so that later "
                    "nodes still run.",
                ),
                PlacementsType.Output(display_name="placements", tooltip="Positions of the crops, for Paste Faces (GPEN)."),
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="Face mask of each crop, as a list.",
                ),
                io.Int.Output(display_name="count", tooltip="Number of crops from all images."),
                io.String.Output(
                    display_name="summary", tooltip="Number of faces found and cropped, and why others were skipped."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        size: int,
        gpen_model: GpenModel | None = None,
        region_mask: torch.Tensor | None = None,
        face_options: FaceOptions | None = None,
        look_options: LookOptions | None = None,
        **values: Any,
    ) -> NodeOutput:
        """`values` holds the other inputs. Raises the same errors as Restore Faces (GPEN)."""
        face, look = face_options or FaceOptions(), look_options or LookOptions()
        if look.background is not None:
            raise OptionsError(NO_BACKGROUND)
        options = merge_restore_options(face, look, **{**values, "strength": 1.0, **UNUSED_LOOK})
        frames = make_inputs(image, region_mask, face, look)
        placements, squares, masks, results = GpenPlacements(), [], [], []
        with NodeProgress(cls.hidden.unique_id) as reporter:
            model = loading.linked_or_any(gpen_model, reporter)
            for one in model.crop(frames, len(image), options, size, reporter):
                placements.frames.append(one.crops)
                squares += [tensors.crop_to_image(pixels, image) for pixels in one.pixels]
                masks += [tensors.mask_to_tensor(crop.mask, size) for crop in one.crops]
                results.append(replace(one, pixels=()))
        text = "\n".join([_summary(results), *outputs.mask_notes(region_mask), *_unused_notes(look)])
        squares = squares or [torch.full((1, size, size, 3), 0.5, device=management.intermediate_device())]
        masks = masks or [torch.zeros((1, size, size), device=management.intermediate_device())]
        return NodeOutput(torch.cat(squares), placements, masks, len(placements), text, ui=ui.PreviewText(text))


def _unused_notes(look: LookOptions) -> list[str]:
    names = [name for name, value in look.values.items() if name in UNUSED_LOOK and value != getattr(DEFAULTS, name)]
    return [UNUSED.format(names=", ".join(names))] if names else []


def _summary(results: Sequence[FaceCrops]) -> str:
    faces = [_mark_cropped(one.faces, one.crops) for one in results]
    text = outputs.summary(faces, [one.notes for one in results], verb="cropped")
    if results and not any(faces):  # the first line then says which faces could be found, and what to try
        text = "\n".join([results[-1].summary, *text.splitlines()[1:]])
    return text if any(one.crops for one in results) else f"{text}\n{PLACEHOLDER}"


def _mark_cropped(faces: Sequence[Face], crops: Sequence[FaceCrop]) -> list[Face]:
    numbers = {crop.number for crop in crops}
    return [replace(face, restored=number in numbers) for number, face in enumerate(faces)]

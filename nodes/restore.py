"""Restore Faces (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from ..gpen_core import OptionsError, VideoOptions
from . import boxes, inputs, outputs, tensors
from .comfy import GpenModelType, NodeOutput, folded, io, schema
from .model import GpenModel
from .restore_base import RestoringNode


class RestoreFaces(RestoringNode):
    """Finds the faces of images and restores them."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_RestoreFaces",
            display_name="Restore Faces (GPEN)",
            category="image/face",
            description="Finds the faces in an image and restores them with GPEN. All else stays as it is.",
            search_aliases=["face restoration", "face restore", "fix faces", "gpen", "gfpgan", "codeformer", "facerestore"],
            inputs=[
                GpenModelType.Input("model", lazy=True, tooltip="From Load GPEN Model."),
                io.Image.Input("image", tooltip="One image or a batch, such as the frames of a video."),
                inputs.strength(1.0),
                *inputs.selection(),
                *inputs.appearance(),
                inputs.region_mask(),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="The same image enlarged by any upscaler: the faces of `image` are put into it, at its scale.",
                ),
                inputs.boxes_input(),
                *inputs.more_selection(),
                inputs.box_format(),
                io.Boolean.Input(
                    "aligned",
                    default=False,
                    tooltip="Each image is one face's square already, as Crop Faces (GPEN) gives them: it goes "
                    "into the network whole, and nothing is looked for.",
                    **folded(io.Boolean),
                ),
                *inputs.more_appearance(),
                io.Boolean.Input(
                    "frames_are_video",
                    default=False,
                    tooltip="The images follow each other: cuts are found, faces followed from image to image and evened "
                    "out over time. Such images take one mask for all, no background, boxes or aligned squares, and give "
                    "no crops.",
                    **folded(io.Boolean),
                ),
                io.Float.Input(
                    "temporal_smoothing",
                    default=inputs.VIDEO.temporal_smoothing,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="With frames_are_video: how much restored faces are evened out over time; 0 takes every "
                    "image by itself.",
                    **folded(io.Float),
                ),
            ],
            outputs=outputs.of_restoring(),
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        model: GpenModel | None = None,
        region_mask: torch.Tensor | None = None,
        background: torch.Tensor | None = None,
        bboxes: Any = None,
        box_format: str = boxes.FORMATS[0],
        aligned: bool = False,
        frames_are_video: bool = False,
        temporal_smoothing: float = inputs.VIDEO.temporal_smoothing,
        **values: Any,
    ) -> NodeOutput:
        """`values` are those of the other inputs. Raises `GpenError` for what cannot be (`InputError`, `OptionsError`,
        `MissingWeights`), torch's out of memory error, on which ComfyUI makes room, and ComfyUI's own when interrupted."""
        from ..gpen_core import Frame  # brings OpenCV, which ComfyUI's start is spared

        if frames_are_video:
            _refuse({"background": background is not None, "bboxes": bboxes is not None, "aligned": aligned})
            return cls.restore_film(model, inputs.options(**values), VideoOptions(temporal_smoothing), image, region_mask)
        count = len(image)
        parts = zip(
            tensors.frames_of(image),
            tensors.partners_of(background, count, "background"),
            tensors.limits_of(region_mask, count),
            boxes.of(bboxes, image.shape, box_format),
        )
        frames = (Frame(picture, None, behind, region, within, aligned) for picture, behind, region, within in parts)
        return cls.restore(model, inputs.options(**values), image if background is None else background, frames, region_mask)


def _refuse(given: dict[str, bool]) -> None:
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise OptionsError(
            f"Frames of a video take no {' and no '.join(names)}. Disconnect that or switch it off, or switch "
            "frames_are_video off."
        )

"""Restore Faces (GPEN)."""

from __future__ import annotations

from typing import Any

import torch

from ..gpen_core import OptionsError, VideoOptions
from . import boxes, inputs, outputs, tensors
from .comfy import GpenModelType, NodeOutput, advanced_optional, io, schema
from .model import GpenModel
from .restore_base import RestoreNodeBase


class RestoreFaces(RestoreNodeBase):
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
                *inputs.advanced_selection(),
                inputs.box_format(),
                io.Boolean.Input(
                    "aligned",
                    default=False,
                    tooltip="Each image is one face's square already, as Crop Faces (GPEN) gives them: it goes "
                    "into the network whole, and nothing is looked for.",
                    **advanced_optional(io.Boolean),
                ),
                *inputs.advanced_appearance(),
                io.Boolean.Input(
                    "frames_are_video",
                    default=False,
                    tooltip="The images follow each other: cuts are found, faces followed from image to image and evened "
                    "out over time. Such images take one mask for all, no background, boxes or aligned squares, and give "
                    "no crops.",
                    **advanced_optional(io.Boolean),
                ),
                io.Float.Input(
                    "temporal_smoothing",
                    default=inputs.VIDEO_DEFAULTS.temporal_smoothing,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="With frames_are_video: how much restored faces are evened out over time; 0 takes every "
                    "image by itself.",
                    **advanced_optional(io.Float),
                ),
            ],
            outputs=outputs.restore_outputs(),
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
        temporal_smoothing: float = inputs.VIDEO_DEFAULTS.temporal_smoothing,
        **values: Any,
    ) -> NodeOutput:
        """`values` are those of the other inputs. Raises `GpenError` for what cannot be (`InputError`, `OptionsError`,
        `MissingWeights`), torch's out of memory error, on which ComfyUI makes room, and ComfyUI's own when interrupted."""
        from ..gpen_core import RestoreInput  # brings OpenCV, which ComfyUI's start is spared

        if frames_are_video:
            _check_video_inputs({"background": background is not None, "bboxes": bboxes is not None, "aligned": aligned})
            return cls.restore_video_frames(
                model,
                inputs.restore_options(**values),
                VideoOptions(temporal_smoothing=temporal_smoothing),
                image,
                region_mask,
            )
        count = len(image)
        inputs_per_frame = zip(
            tensors.iter_frames(image),
            tensors.paired_frames(background, count, "background"),
            tensors.masks_for(region_mask, count),
            boxes.parse_boxes(bboxes, image.shape, box_format),
        )
        frames = (
            RestoreInput(frame, None, behind, region, within, aligned) for frame, behind, region, within in inputs_per_frame
        )
        return cls.restore(
            model, inputs.restore_options(**values), image if background is None else background, frames, region_mask
        )


def _check_video_inputs(inputs: dict[str, bool]) -> None:
    names = [name for name, is_given in inputs.items() if is_given]
    if names:
        raise OptionsError(
            f"Frames of a video take no {' and no '.join(names)}. Disconnect that or switch it off, or switch "
            "frames_are_video off."
        )

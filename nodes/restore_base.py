"""Base class and helpers of the restoring nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import RestoreOptions
from . import boxes, loading, outputs, tensors, used_crops
from .comfy import ComfyNode, NodeOutput
from .host_progress import NodeProgress
from .model import GpenModel
from .options import FaceOptions, LookOptions, merge_restore_options

if TYPE_CHECKING:
    from ..gpen_core import RestoreInput


class RestoreNodeBase(ComfyNode):
    """Base of nodes that have a *model* input, which a linked Load GPEN Model replaces."""

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, **unused: Any) -> str:
        """See `loading.fingerprint`."""
        return loading.fingerprint(model)

    @classmethod
    def check_lazy_status(cls, strength: float, **values: Any) -> list[str]:
        """At strength 0, do not evaluate the linked model. `values` lacks inputs that are not linked."""
        is_waiting = "gpen_model" in values and values["gpen_model"] is None
        return ["gpen_model"] if strength > 0 and is_waiting else []

    @classmethod
    def restore(
        cls,
        image: torch.Tensor,
        model: str,
        before_swap: torch.Tensor | None = None,
        gpen_model: GpenModel | None = None,
        region_mask: torch.Tensor | None = None,
        face_options: FaceOptions | None = None,
        look_options: LookOptions | None = None,
        **values: Any,
    ) -> NodeOutput:
        """Restore a batch of single images and return the node's outputs. `values` holds the node's own options."""
        tensors.check_image(image)
        face, look = face_options or FaceOptions(), look_options or LookOptions()
        options = merge_restore_options(face, look, **values)
        target = image if look.background is None else look.background
        if reason := skip_reason(options, image, region_mask):
            return outputs.passthrough(target, reason)
        frames = make_inputs(image, region_mask, face, look, before_swap)
        keep_crops = used_crops.are_used(cls.hidden.prompt, cls.hidden.unique_id)
        notes = outputs.mask_notes(region_mask)
        with NodeProgress(cls.hidden.unique_id) as reporter:
            restorer = loading.linked_or_loaded(gpen_model, model, reporter)
            return outputs.image_output(restorer.restore(frames, len(image), options, keep_crops, reporter), target, notes)


def make_inputs(
    image: torch.Tensor,
    region_mask: torch.Tensor | None,
    face: FaceOptions,
    look: LookOptions,
    before_swap: torch.Tensor | None = None,
) -> Iterable[RestoreInput]:
    """Return one input for each image of the batch."""
    from ..gpen_core import RestoreInput  # imports OpenCV; imported late to keep ComfyUI's startup fast

    count = len(image)
    parts = zip(
        tensors.iter_frames(image),
        tensors.paired_frames(before_swap, count, "before_swap"),
        tensors.paired_frames(look.background, count, "background"),
        tensors.masks_for(region_mask, count),
        boxes.parse_boxes(face.bboxes, image.shape, face.box_format),
    )
    return (RestoreInput(*part, face.aligned) for part in parts)


def skip_reason(options: RestoreOptions, image: torch.Tensor, region_mask: torch.Tensor | None) -> str | None:
    """Return why there is nothing to restore, or None."""
    if options.strength == 0:
        return "Strength is 0: nothing was restored."
    if len(image) == 0:
        return "The batch is empty: nothing was restored."
    return outputs.EMPTY_MASK if tensors.is_empty(region_mask) else None

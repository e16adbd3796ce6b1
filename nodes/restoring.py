"""What the restoring nodes have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import RestoreOptions
from . import outputs
from .comfy import ComfyNode, NodeOutput
from .model import GpenModel, require

if TYPE_CHECKING:
    from ..gpen_core import Frame


class RestoringNode(ComfyNode):
    """A node whose model is not loaded where the strength is 0."""

    @classmethod
    def check_lazy_status(cls, strength: float, model: GpenModel | None = None, **others: Any) -> list[str]:
        return ["model"] if strength > 0 and model is None else []

    @classmethod
    def restore(
        cls,
        model: GpenModel | None,
        options: RestoreOptions,
        like: torch.Tensor,
        frames: Iterable[Frame],
        mask: torch.Tensor | None,
    ) -> NodeOutput:
        """The outputs, in the type of `like`, the IMAGE that comes back where there is nothing to do."""
        if options.strength == 0:
            return outputs.untouched(like, "The strength is 0: nothing was done.")
        if len(like) == 0:
            return outputs.untouched(like, "There are no images in the batch: nothing was done.")
        remarks = outputs.remarks(mask)
        keep_crops = outputs.wants_crops(cls.hidden.prompt, cls.hidden.unique_id)
        return outputs.result(require(model).restore(frames, len(like), options, keep_crops), like, remarks)

"""What the restoring nodes have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import RestoreOptions, VideoOptions
from . import outputs, tensors
from .comfy import ComfyNode, NodeOutput
from .host_progress import NodeProgress
from .model import GpenModel, require_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..gpen_core import RestoreInput


class RestoreNodeBase(ComfyNode):
    """A node whose model is not loaded where the strength is 0."""

    @classmethod
    def check_lazy_status(cls, strength: float, model: GpenModel | None = None, **unused: Any) -> list[str]:
        return ["model"] if strength > 0 and model is None else []

    @classmethod
    def restore(
        cls,
        model: GpenModel | None,
        options: RestoreOptions,
        like: torch.Tensor,
        frames: Iterable[RestoreInput],
        region_mask: torch.Tensor | None,
    ) -> NodeOutput:
        """The outputs, in the type of `like`, the IMAGE that comes back where there is nothing to do."""
        if reason := _skip_reason(options, like):
            return outputs.passthrough(like, reason)
        notes = outputs.format_notes(region_mask)
        keep_crops = outputs.wants_crops(cls.hidden.prompt, cls.hidden.unique_id)
        return outputs.image_output(require_model(model).restore(frames, len(like), options, keep_crops), like, notes)

    @classmethod
    def restore_video_frames(
        cls,
        model: GpenModel | None,
        options: RestoreOptions,
        video: VideoOptions,
        image: torch.Tensor,
        region_mask: torch.Tensor | None,
    ) -> NodeOutput:
        """The same of images that follow each other, see `restore_sequence`."""
        from ..gpen_core import restore_sequence  # brings OpenCV, which ComfyUI's start is spared

        if reason := _skip_reason(options, image):
            return outputs.passthrough(image, reason)
        model, region, reporter = (
            require_model(model),
            tensors.mask_for(region_mask, "video"),
            NodeProgress(cls.hidden.unique_id),
        )
        passes = iter(range(2))

        def read_frames() -> Iterator[NDArray[Any]]:
            return tensors.iter_frames(image, is_warned=next(passes) > 0)

        with model.device_session(options, reporter) as max_memory:
            results = restore_sequence(
                model.restorer, read_frames, options, video, region_mask=region, progress=reporter, max_memory=max_memory
            )
            return outputs.sequence_output(results, image, outputs.format_notes(region_mask))


def _skip_reason(options: RestoreOptions, image: torch.Tensor) -> str | None:
    if options.strength == 0:
        return "The strength is 0: nothing was done."
    return "There are no images in the batch: nothing was done." if len(image) == 0 else None

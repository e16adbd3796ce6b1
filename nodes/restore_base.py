"""What the restoring nodes have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import RestoreOptions, VideoOptions
from . import outputs, tensors
from .comfy import ComfyNode, NodeOutput
from .host_progress import Reporter
from .model import GpenModel, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        region_mask: torch.Tensor | None,
    ) -> NodeOutput:
        """The outputs, in the type of `like`, the IMAGE that comes back where there is nothing to do."""
        if why := _nothing_to_do(options, like):
            return outputs.untouched(like, why)
        remarks = outputs.remarks(region_mask)
        keep_crops = outputs.wants_crops(cls.hidden.prompt, cls.hidden.unique_id)
        return outputs.result(require(model).restore(frames, len(like), options, keep_crops), like, remarks)

    @classmethod
    def restore_film(
        cls,
        model: GpenModel | None,
        options: RestoreOptions,
        video: VideoOptions,
        image: torch.Tensor,
        region_mask: torch.Tensor | None,
    ) -> NodeOutput:
        """The same of images that follow each other, see `restore_sequence`."""
        from ..gpen_core import restore_sequence  # brings OpenCV, which ComfyUI's start is spared

        if why := _nothing_to_do(options, image):
            return outputs.untouched(image, why)
        model, region, reporter = require(model), tensors.one_limit(region_mask, "video"), Reporter(cls.hidden.unique_id)
        passes = iter(range(2))

        def pictures() -> Iterator[NDArray[Any]]:
            return tensors.frames_of(image, is_told=next(passes) > 0)

        with model.at_work(options, reporter) as max_memory:
            results = restore_sequence(
                model.restorer, pictures, options, video, region_mask=region, progress=reporter, max_memory=max_memory
            )
            return outputs.of_film(results, image, outputs.remarks(region_mask))


def _nothing_to_do(options: RestoreOptions, image: torch.Tensor) -> str | None:
    if options.strength == 0:
        return "The strength is 0: nothing was done."
    return "There are no images in the batch: nothing was done." if len(image) == 0 else None

"""What a face goes through before and after its network: cut out, masked, colored and put back; here with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from ..faces.align import Alignment
from ..faces.postprocess import MaskModels, match_color, tone_and_mask
from ..images.image import FloatImage
from ..progress import StageTimer
from .devices import run_with_oom_backoff
from .inputs import RestoreSession

Crop = TypeVar("Crop", FloatImage, torch.Tensor)

MASK_NOUN, FEATHERED_MASK_HINT = "face's mask", "choose feathered masks"  # what memory may run out for, and what helps


@dataclass(frozen=True, eq=False)
class FaceTask:
    """One face to restore."""

    session: RestoreSession
    number: int
    alignment: Alignment
    target: Alignment
    """Where it is put back, in the image or its background."""

    @property
    def width_ratio(self) -> float:
        """Of the face, as a part of its square's side."""
        return self.session.width_ratio(self.number, self.alignment)


class FaceCompositor(Protocol[Crop]):
    """Takes faces out of images and puts them back. A crop is what the network is given: its kind is this one's own."""

    def begin(self, tasks: Sequence[FaceTask]) -> None:
        """Says which faces come next; each is told to be finished once."""

    def crop(self, task: FaceTask) -> Crop:
        """Raises torch's error where memory runs out; see `devices.run_with_oom_backoff`."""

    def paste(self, task: FaceTask, crop: Crop, restored: Crop, note: str | None) -> Crop:
        """Masks, colors and blends what the network made of `crop`, and gives it as it was blended.

        Raises `OutOfMemory` where its mask does not fit."""

    def flush(self, task: FaceTask) -> None:
        """Nothing more is done with this face. After an image's last one, it holds all of them."""

    def to_numpy(self, crop: Crop) -> FloatImage:
        """[S, S, 3] RGB in [0, 1]."""


class OpenCVCompositor:
    """On the CPU, with every option. Crops are [S, S, 3] RGB in [0, 1]."""

    def __init__(self, mask_models: MaskModels, timer: StageTimer) -> None:
        self._mask_models = mask_models
        self._timer = timer

    def begin(self, tasks: Sequence[FaceTask]) -> None:
        """There is nothing to prepare."""

    def crop(self, task: FaceTask) -> FloatImage:
        return task.session.crop(task.alignment)

    def paste(self, task: FaceTask, crop: FloatImage, restored: FloatImage, note: str | None) -> FloatImage:
        session, options = task.session, task.session.options

        def run(outputs: Sequence[FloatImage]) -> tuple[FloatImage, FloatImage | None]:
            return tone_and_mask(options, self._mask_models, crop, outputs[0], task.width_ratio, session.is_aligned)

        with self._timer.stage("mask"):
            ((_, (restored, mask)),) = run_with_oom_backoff([restored], 1, run, MASK_NOUN, FEATHERED_MASK_HINT)
        with self._timer.stage("blend"):
            restored = match_color(options, crop, restored, mask)
            session.paste(task.number, restored, mask, task.target, note)
        return restored

    def flush(self, task: FaceTask) -> None:
        """Each face is in its image as soon as it is put back."""

    def to_numpy(self, crop: FloatImage) -> FloatImage:
        return crop

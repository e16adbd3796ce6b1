"""Cropping faces for the network and compositing the results: masks, colors and pasting, with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from ..faces.align import Alignment
from ..faces.face import Landmarks
from ..faces.fidelity import keep_input
from ..faces.identity import FaceEmbedder, identity_skip_reason, strength_for_identity
from ..faces.postprocess import MaskModels, match_color, tone_and_mask
from ..images.image import FloatImage
from ..progress import StageTimer
from .devices import single_item_context
from .session import RestoreSession

Crop = TypeVar("Crop", FloatImage, torch.Tensor)

# For out-of-memory errors: what needed the memory, and how to need less.
MASK_NOUN, FEATHERED_MASK_HINT = "face's mask", "choose feathered masks"


@dataclass(frozen=True, eq=False)
class FaceTask:
    """One face to restore."""

    session: RestoreSession
    number: int
    alignment: Alignment
    target: Alignment
    """Where the face is pasted, in the image or its background."""

    @property
    def width_ratio(self) -> float:
        """The width of the face, as a fraction of the side of its square."""
        return self.session.width_ratio(self.number, self.alignment)

    @property
    def landmarks(self) -> Landmarks:
        """The landmarks [5, 2] in pixels of the crop."""
        matrix = self.alignment.matrix
        return np.asarray(self.session.faces[self.number].landmarks @ matrix[:, :2].T + matrix[:, 2], np.float64)


class FaceCompositor(Protocol[Crop]):
    """Crops faces from images and pastes them back. The type of a crop, the network's input, depends on the compositor."""

    def begin(self, tasks: Sequence[FaceTask]) -> None:
        """Announce the next faces. `flush` is called once for each."""

    def crop(self, task: FaceTask) -> Crop:
        """Crop a face. If memory runs out, torch's error is raised; see `devices.run_with_oom_backoff`."""

    def paste(self, task: FaceTask, crop: Crop, restored: Crop, note: str | None) -> Crop:
        """Mask, recolor and paste `restored`, the network's output for `crop`. Returns the recolored crop.

        The face is marked as restored, or skipped if the option `min_identity` does not allow any strength. Raises
        `OutOfMemory` if there is not enough memory for the mask."""

    def flush(self, task: FaceTask) -> None:
        """Finish a face. After the last face of an image, the image contains all of them."""

    def to_numpy(self, crop: Crop) -> FloatImage:
        """Convert a crop to [S, S, 3] RGB in [0, 1]."""


class OpenCVCompositor:
    """A `FaceCompositor` for the CPU that supports all options. Crops are [S, S, 3] RGB in [0, 1]."""

    def __init__(self, mask_models: MaskModels, timer: StageTimer, embedder: FaceEmbedder | None = None) -> None:
        """`embedder` is needed for the option `min_identity`."""
        self._embedder = embedder
        self._mask_models = mask_models
        self._timer = timer

    def begin(self, tasks: Sequence[FaceTask]) -> None:
        """Do nothing: OpenCV needs no preparation."""

    def crop(self, task: FaceTask) -> FloatImage:
        return task.session.crop(task.alignment)

    def paste(self, task: FaceTask, crop: FloatImage, restored: FloatImage, note: str | None) -> FloatImage:
        """See `FaceCompositor.paste`."""
        session, options = task.session, task.session.options
        with self._timer.stage("mask"), single_item_context(MASK_NOUN, FEATHERED_MASK_HINT):
            restored, mask = tone_and_mask(
                options,
                self._mask_models,
                crop,
                restored,
                task.width_ratio,
                session.is_aligned,
                photo=session.photo_residual,
            )
        with self._timer.stage("blend"):
            restored = keep_input(options.fidelity, session.image, task.alignment, crop, restored)
            restored = match_color(options, crop, restored, mask)
            if self._embedder is not None and options.min_identity > 0:
                self._paste_keeping_identity(self._embedder, task, crop, restored, mask, note)
            else:
                session.paste(task.number, restored, mask, task.target, note, options.strength)
        return restored

    def _paste_keeping_identity(
        self,
        embedder: FaceEmbedder,
        task: FaceTask,
        crop: FloatImage,
        restored: FloatImage,
        mask: FloatImage | None,
        note: str | None,
    ) -> None:
        """Paste with the highest strength that keeps the identity, or skip the face if none does."""
        session, options = task.session, task.session.options
        minimum = options.min_identity
        trial = strength_for_identity(embedder, crop, restored, mask, task.landmarks, options.strength, minimum)
        if trial is None or trial.strength is None:
            session.skip(task.number, identity_skip_reason(trial, minimum))
            return
        if trial.strength < options.strength:
            note = "; ".join(filter(None, (note, f"strength lowered to {trial.lowered_text}")))
        session.paste(task.number, restored, mask, task.target, note, trial.strength)

    def flush(self, task: FaceTask) -> None:
        """Do nothing: `paste` has already changed the image."""

    def to_numpy(self, crop: FloatImage) -> FloatImage:
        return crop

"""What a face goes through before and after its network: cut out, masked, coloured and put back; here with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from ..faces.align import Alignment
from ..faces.postprocess import Masking, matched, shaped
from ..images.image import FloatImage
from ..progress import StageTimer
from .devices import halving
from .inputs import Repair

Crop = TypeVar("Crop", FloatImage, torch.Tensor)

MASK, FEATHERED = "face's mask", "choose feathered masks"  # what memory may run out for, and what helps


@dataclass(frozen=True, eq=False)
class Task:
    """One face to restore."""

    repair: Repair
    number: int
    alignment: Alignment
    target: Alignment
    """Where it is put back, in the picture or its background."""

    @property
    def width(self) -> float:
        """Of the face, as a part of its square's side."""
        return self.repair.width(self.number, self.alignment)


class Around(Protocol[Crop]):
    """Takes faces out of pictures and puts them back. A crop is what the network is given: its kind is this one's own."""

    def expect(self, tasks: Sequence[Task]) -> None:
        """Says which faces come next; each is told to be finished once."""

    def crop(self, task: Task) -> Crop:
        """Raises torch's error where memory runs out; see `devices.halving`."""

    def put_back(self, task: Task, crop: Crop, restored: Crop, note: str | None) -> Crop:
        """Masks, colours and blends what the network made of `crop`, and gives it as it was blended.

        Raises `OutOfMemory` where its mask does not fit."""

    def finish(self, task: Task) -> None:
        """Nothing more is done with this face. After a picture's last one, it holds all of them."""

    def as_array(self, crop: Crop) -> FloatImage:
        """[S, S, 3] RGB in [0, 1]."""


class WithOpenCV:
    """On the CPU, with every option. Crops are [S, S, 3] RGB in [0, 1]."""

    def __init__(self, masking: Masking, watch: StageTimer) -> None:
        self._masking = masking
        self._watch = watch

    def expect(self, tasks: Sequence[Task]) -> None:
        """There is nothing to prepare."""

    def crop(self, task: Task) -> FloatImage:
        return task.repair.crop(task.alignment)

    def put_back(self, task: Task, crop: FloatImage, restored: FloatImage, note: str | None) -> FloatImage:
        repair, options = task.repair, task.repair.options

        def run(outputs: Sequence[FloatImage]) -> tuple[FloatImage, FloatImage | None]:
            return shaped(options, self._masking, crop, outputs[0], task.width, repair.is_aligned)

        with self._watch.stage("mask"):
            ((_, (restored, mask)),) = halving([restored], 1, run, MASK, FEATHERED)
        with self._watch.stage("blend"):
            restored = matched(options, crop, restored, mask)
            repair.put_back(task.number, restored, mask, task.target, note)
        return restored

    def finish(self, task: Task) -> None:
        """Each face is in its picture as soon as it is put back."""

    def as_array(self, crop: FloatImage) -> FloatImage:
        return crop

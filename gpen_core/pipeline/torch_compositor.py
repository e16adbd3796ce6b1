"""Faces cut out, masked, coloured and put back on the network's device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..errors import is_out_of_memory
from ..faces.align import reach
from ..faces.postprocess import Masking
from ..images.image import FloatImage, Region
from ..progress import StageTimer
from .compositor import FEATHERED, MASK, Task, WithOpenCV
from .devices import halving
from .inputs import Repair
from .torch_canvas import DeviceCanvas
from .torch_image import Part, Uploads
from .torch_postprocess import mask_of, matched, softened, toned

Made = TypeVar("Made")

log = logging.getLogger(__name__)


@dataclass
class _Open:
    """One picture at work."""

    source: Region
    """Of the picture: what its faces are cut out of."""
    target: Region
    """Of the picture or its background: where they are put."""
    left: int = 0
    """Faces that are not finished."""
    part: Part | None = None
    canvas: DeviceCanvas | None = None
    is_too_large: bool = False
    """It does not fit the device: its faces are cut out and put back with OpenCV."""


class OnDevice:
    """An `Around` whose crops are [3, S, S] RGB in [0, 1] on the device, for options that `torch_postprocess.does` knows.

    A picture is there, as far as its faces reach or as detection left it, from its first face of one network to the last."""

    def __init__(self, device: torch.device, masking: Masking, watch: StageTimer, uploads: Uploads) -> None:
        """`uploads`: pictures that may be there already."""
        self._device = device
        self._uploads = uploads
        self._masking = masking
        self._watch = watch
        self._opencv = WithOpenCV(masking, watch)
        self._open: dict[Repair, _Open] = {}

    def expect(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            repair = task.repair
            source = reach(repair.picture, task.alignment)
            target = task.target.region(*repair.canvas.original.size)
            known = self._open.setdefault(repair, _Open(source, target))
            known.source, known.target = known.source.joined(source), known.target.joined(target)
            known.left += 1

    def crop(self, task: Task) -> torch.Tensor:
        part = self._source(task.repair)
        return self._as_tensor(self._opencv.crop(task)) if part is None else part.crop(task.alignment)

    def put_back(self, task: Task, crop: torch.Tensor, restored: torch.Tensor, note: str | None) -> torch.Tensor:
        canvas = self._canvas(task.repair)
        if canvas is None:
            return self._as_tensor(self._opencv.put_back(task, self.as_array(crop), self.as_array(restored), note))
        repair, options = task.repair, task.repair.options

        def run(outputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
            made = toned(options, crop, outputs[0])
            return made, mask_of(options, self._masking, made, repair.is_aligned)

        with self._watch.stage("mask"):
            ((_, (restored, mask)),) = halving([restored], 1, run, MASK, FEATHERED)
        with self._watch.stage("blend"):
            restored = matched(options, crop, restored, mask)
            canvas.paste(softened(restored, repair.faces[task.number]), mask, task.target, options.strength)
            repair.mark_restored(task.number, restored.shape[-1], note)
        return restored

    def finish(self, task: Task) -> None:
        known = self._open[task.repair]
        known.left -= 1
        if known.left:
            return
        del self._open[task.repair]
        if known.canvas is not None:
            with self._watch.stage("blend"):
                known.canvas.close()

    def as_array(self, crop: torch.Tensor) -> FloatImage:
        array: FloatImage = crop.permute(1, 2, 0).contiguous().cpu().numpy()  # CHW -> HWC
        return array

    def _as_tensor(self, crop: FloatImage) -> torch.Tensor:
        return torch.from_numpy(crop).to(self._device).permute(2, 0, 1)  # HWC -> CHW

    def _source(self, repair: Repair) -> Part | None:
        """The picture's part that faces are cut out of; None where it does not fit."""
        known = self._open[repair]
        if known.part is None and not known.is_too_large:
            region = known.source.joined(known.target) if repair.canvas.original is repair.picture else known.source
            whole = self._uploads.take(repair.picture, self._device)
            known.part = whole or _fitting(known, lambda: Part(repair.picture, region, self._device))
        return known.part

    def _canvas(self, repair: Repair) -> DeviceCanvas | None:
        """What faces are put into; None where it does not fit."""
        known, canvas = self._open[repair], repair.canvas

        def made() -> DeviceCanvas:
            shared = known.part if canvas.original is repair.picture else None
            return DeviceCanvas(canvas, shared or Part(canvas.original, known.target, self._device))

        if known.canvas is None and not known.is_too_large:
            known.canvas = _fitting(known, made)
        return known.canvas


def _fitting(known: _Open, make: Callable[[], Made]) -> Made | None:
    """What is made, or None where it does not fit the device."""
    try:
        return make()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning("A picture does not fit the device beside the network; its faces are put back by the CPU.")
    known.is_too_large, known.part = True, None
    return None

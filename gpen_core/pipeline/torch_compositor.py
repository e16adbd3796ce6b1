"""Cropping, masking, recoloring and pasting faces on the network's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..faces.align import read_region
from ..faces.postprocess import MaskModels
from ..images.image import FloatImage, Region
from ..progress import StageTimer
from .compositor import FEATHERED_MASK_HINT, MASK_NOUN, FaceTask, OpenCVCompositor
from .devices import single_item_context
from .session import RestoreSession
from .torch_canvas import TorchCanvas
from .torch_image import DeviceImage, Made, UploadCache, make_if_fits, to_array, to_tensor
from .torch_postprocess import apply_tone, blur_small_face, build_mask, match_color


@dataclass
class _ImageState:
    """The state of one image while its faces are restored."""

    source_region: Region
    """The part of the image from which faces are cropped."""
    target_region: Region
    """The part of the image or its background into which faces are pasted."""
    remaining: int = 0
    """Number of unfinished faces."""
    source_image: DeviceImage | None = None
    canvas: TorchCanvas | None = None
    is_too_large: bool = False
    """The image does not fit into the device's memory, so OpenCV crops and pastes its faces."""


class TorchCompositor:
    """A `FaceCompositor` for the options of `options.supported_on_device`. Crops are [3, S, S] RGB in [0, 1] on the device.

    An image is on the device from its first to its last face of a network: the part with faces, or the whole image if
    detection has uploaded it."""

    def __init__(self, device: torch.device, mask_models: MaskModels, timer: StageTimer, upload_cache: UploadCache) -> None:
        """`upload_cache` holds images that detection has uploaded."""
        self._device = device
        self._upload_cache = upload_cache
        self._mask_models = mask_models
        self._timer = timer
        self._opencv = OpenCVCompositor(mask_models, timer)
        self._states: dict[RestoreSession, _ImageState] = {}

    def begin(self, tasks: Sequence[FaceTask]) -> None:
        for task in tasks:
            session = task.session
            source = read_region(session.image, task.alignment)
            target = task.target.source_region(*session.canvas.original.size)
            state = self._states.setdefault(session, _ImageState(source, target))
            state.source_region, state.target_region = state.source_region.union(source), state.target_region.union(target)
            state.remaining += 1

    def crop(self, task: FaceTask) -> torch.Tensor:
        source_image = self._source_image(task.session)
        return (
            to_tensor(self._opencv.crop(task), self._device) if source_image is None else source_image.crop(task.alignment)
        )

    def paste(self, task: FaceTask, crop: torch.Tensor, restored: torch.Tensor, note: str | None) -> torch.Tensor:
        """See `FaceCompositor.paste`. The options that this class supports skip no face."""
        canvas = self._canvas(task.session)
        if canvas is None:
            return to_tensor(self._opencv.paste(task, to_array(crop), to_array(restored), note), self._device)
        session, options = task.session, task.session.options
        with self._timer.stage("mask"), single_item_context(MASK_NOUN, FEATHERED_MASK_HINT):
            restored = apply_tone(options, crop, restored, session.photo_residual)
            mask = build_mask(options, self._mask_models, restored, session.is_aligned)
        with self._timer.stage("blend"):
            restored = match_color(options, crop, restored, mask)
            canvas.paste(blur_small_face(restored, session.faces[task.number]), mask, task.target, options.strength)
            session.mark_restored(task.number, restored.shape[-1], note)
        return restored

    def flush(self, task: FaceTask) -> None:
        state = self._states[task.session]
        state.remaining -= 1
        if state.remaining:
            return
        del self._states[task.session]
        if state.canvas is not None:
            with self._timer.stage("blend"):
                state.canvas.close()

    def to_numpy(self, crop: torch.Tensor) -> FloatImage:
        return to_array(crop)

    def _source_image(self, session: RestoreSession) -> DeviceImage | None:
        """Return the image on the device, or None if it does not fit."""
        state = self._states[session]
        if state.source_image is None and not state.is_too_large:
            region = (
                state.source_region.union(state.target_region)
                if session.canvas.original is session.image
                else state.source_region
            )
            cached = self._upload_cache.pop(session.image, self._device)
            state.source_image = cached or _make_if_fits(state, lambda: DeviceImage(session.image, region, self._device))
        return state.source_image

    def _canvas(self, session: RestoreSession) -> TorchCanvas | None:
        """Return the canvas on the device, or None if it does not fit."""
        state, canvas = self._states[session], session.canvas

        def make_canvas() -> TorchCanvas:
            shared = state.source_image if canvas.original is session.image else None
            return TorchCanvas(canvas, shared or DeviceImage(canvas.original, state.target_region, self._device))

        if state.canvas is None and not state.is_too_large:
            state.canvas = _make_if_fits(state, make_canvas)
        return state.canvas


def _make_if_fits(state: _ImageState, make: Callable[[], Made]) -> Made | None:
    made = make_if_fits(make)
    if made is None:
        state.is_too_large, state.source_image = True, None
    return made

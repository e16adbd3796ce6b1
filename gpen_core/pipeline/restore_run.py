"""One run of `FaceRestorer.restore_batch`: its faces go through the network in batches, whichever image they are from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..images.image import FloatImage
from ..options import RestoreOptions, supported_on_device
from ..progress import Progress, ProgressEvent, StageTimer
from ..weights.catalog import INPAINT
from . import device_check
from .compositor import FaceCompositor, FaceTask, OpenCVCompositor
from .gpen_runner import GPENRunner
from .model_set import ModelSet
from .restore_result import RestoreResult
from .session import RestoreSession
from .torch_compositor import TorchCompositor
from .torch_image import MAX_CACHED_BYTES, UploadCache


class RestoreRun:
    """Restores the faces of the sessions of one run, and has the state that they share."""

    def __init__(
        self,
        models: ModelSet,
        options: RestoreOptions,
        progress: Progress,
        max_memory: int | None = None,
        keep_crops: bool = False,
    ) -> None:
        """`max_memory` limits the network's activations in bytes. With `keep_crops`, results have the restored crops. Errors
        as in `ModelSet.mask_models`."""
        self.timer = StageTimer()
        self.upload_cache = UploadCache(MAX_CACHED_BYTES)
        self._models = models
        self._progress = progress
        self._max_memory = max_memory
        self._keep_crops = keep_crops
        self._compositor = self._make_compositor(options)
        self._done = self._total = 0
        self._crops: dict[RestoreSession, dict[int, FloatImage]] = {}

    def restore_faces(self, sessions: Sequence[RestoreSession]) -> None:
        """Restore the selected faces of all sessions, those of one network size after the other."""
        by_size: dict[int, list[FaceTask]] = {}
        for session in sessions:
            for number, alignment, target in session.alignments(partial(self._select_size, session)):
                by_size.setdefault(alignment.size, []).append(FaceTask(session, number, alignment, target))
        self._total = sum(map(len, by_size.values()))
        self._report()
        for size, tasks in by_size.items():
            self._restore_tasks(self._models.runner_for(size, self._progress), tasks)

    def result(self, session: RestoreSession) -> RestoreResult:
        """Return the result of a finished session."""
        smallest, largest = self._models.detector.detectable_sizes(session.image, session.options.detection_size)
        crops = tuple(crop for _, crop in sorted(self._crops.get(session, {}).items()))
        return RestoreResult(
            mask=session.canvas.mask,
            faces=tuple(session.faces),
            smallest_face=smallest,
            largest_face=largest,
            seconds=self.timer.seconds,
            image_data=session.canvas.result,
            crops=crops,
            notes=tuple(session.notes),
            source_file=session.source_file,
        )

    def _make_compositor(self, options: RestoreOptions) -> FaceCompositor[Any]:
        """Return a compositor on the networks' device if it supports these options, else on the CPU."""
        models = self._models
        mask_models = models.mask_models(options, self._progress)
        is_supported = supported_on_device(options) and models.operation != INPAINT
        if is_supported and device_check.supports_image_ops(models.device):
            return TorchCompositor(models.device, mask_models, self.timer, self.upload_cache)
        embedder = models.identity.embedder(self._progress) if options.min_identity > 0 else None
        return OpenCVCompositor(mask_models, self.timer, embedder)

    def _select_size(self, session: RestoreSession, side: float) -> int:
        """Return the size of the network for a face whose square is `side` pixels wide."""
        size = self._models.runner_for(side, self._progress).network.size
        advice = self._models.advise(side, size)
        if advice is not None and advice not in session.notes:
            session.notes.append(advice)
        return size

    def _restore_tasks(self, runner: GPENRunner, tasks: Sequence[FaceTask]) -> None:
        compositor = self._compositor
        compositor.begin(tasks)
        for output in runner.run_batches(tasks, compositor.crop, self.timer, self._max_memory, self._on_tick):
            task = output.item
            if output.restored is None:
                task.session.skip(task.number, output.note or "")
            else:
                pasted = compositor.paste(task, output.crop, output.restored, output.note)
                if self._keep_crops and task.session.faces[task.number].restored:
                    self._crops.setdefault(task.session, {})[task.number] = compositor.to_numpy(pasted)
                del pasted
            del output  # see `run_with_oom_backoff`
            compositor.flush(task)
            self._done += 1
            self._report()

    def _report(self) -> None:
        self._event = ProgressEvent("restore", self._done, self._total, "face", "Restoring faces")
        self._on_tick()

    def _on_tick(self) -> None:
        """Send the last event again. It is called between layers of a network, where creating an event would cost time."""
        self._progress(self._event)

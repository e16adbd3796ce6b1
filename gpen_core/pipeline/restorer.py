"""The one place that ties the rooms together: image -> faces -> crops -> network -> image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from typing import Any

import torch
from numpy.typing import NDArray

from ..errors import is_out_of_memory, oom_context
from ..faces.detection.retinaface import Detector
from ..faces.face import Box, Face
from ..faces.select import flag_implausible, sort_faces
from ..images.image import FloatImage, ImageData
from ..network import GPEN
from ..options import RestoreOptions, supported_on_device
from ..progress import Progress, ProgressEvent, StageTimer, no_progress
from ..weights.download_options import DownloadOptions
from ..weights.folders import Folders
from .compositor import FaceCompositor, FaceTask, OpenCVCompositor
from .device_check import supports_image_ops
from .devices import SMALLER_MODEL_HINT, ForkGuard, run_with_oom_backoff
from .gpen_runner import GPENRunner
from .inputs import RestoreInput, RestoreSession, load_image, with_upscaled_background
from .model_set import DEFAULT_DETECTOR, DEFAULT_MODEL, ModelSet
from .restore_result import RestoreResult
from .torch_compositor import TorchCompositor
from .torch_image import MAX_CACHED_BYTES, UploadCache
from .torch_image_source import TorchImageSource
from .upscale import LANCZOS

log = logging.getLogger(__name__)


@dataclass
class _RestoreRun:
    """What the faces of one call have in common."""

    compositor: FaceCompositor[Any]
    timer: StageTimer
    progress: Progress
    keep_crops: bool
    max_memory: int | None
    done: int = 0
    total: int = 0
    crops: dict[RestoreSession, dict[int, FloatImage]] = field(default_factory=dict)
    event: ProgressEvent = field(init=False)

    def report(self) -> None:
        self.event = ProgressEvent("restore", self.done, self.total, "face", "Restoring faces")
        self.on_tick()

    def on_tick(self) -> None:
        """Sends the same event again. It is called between the layers of a network, where making one would cost time."""
        self.progress(self.event)


class FaceRestorer:
    """Finds faces, restores them and puts them back. Made with `load`.

    Restoring is safe from several threads: their faces then share the networks, not the memory kept for the next face. It
    is not safe in a child that was forked after networks were loaded (torch's threads are missing there): it raises
    `DeviceError`; start such processes with `spawn`."""

    def __init__(self, models: ModelSet) -> None:
        self.models = models

    @classmethod
    def load(
        cls,
        model: str | PathLike[str] = DEFAULT_MODEL,
        detector: str | PathLike[str] = DEFAULT_DETECTOR,
        models_dir: Folders | None = None,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        progress: Progress | None = None,
        downloads: DownloadOptions | None = None,
        detection_dir: Folders | None = None,
        offload_device: torch.device | None = None,
        upscaler: str = LANCZOS,
    ) -> FaceRestorer:
        """Loads the weights: `model` and `detector` are names looked up in the models folder, or files' paths.

        With the model `auto` each face takes the smallest released network that is there and whose square is at least as
        wide as its own, from 512 on, loaded when first needed; `auto:256` begins at 256. A face that is larger than all of
        them takes the largest, and the result's notes name the one that would suit it. Where none is there, that for 2048 is
        fetched.
        `models_dir` is one folder or several, and defaults to `$GPEN_MODELS_DIR`, else the user's cache directory. A file
        of the catalog that is in none of them is fetched into the first, unless `downloads` (default: the environment's)
        says that it may not. The detector and the face parser have folders of their own where `detection_dir` says so.
        `offload_device` leaves the weights on that device, for a host that moves them itself (see `modules`). `upscaler`, as
        in `RestoreOptions`, is fetched with the others where it is missing. `progress` counts the bytes of a download, then
        models, and stops the work by raising `Interrupted`. Raises `MissingWeights` (a `WeightsError`) saying which file
        belongs where, `WeightsError` for a file that is refused, `DeviceError` for a device or precision that is not there,
        `OutOfMemory` where they do not fit, `MissingDependency` for an upscaler that no package builds."""
        args = (models_dir, device, dtype, progress, downloads, detection_dir, offload_device, upscaler)
        return cls(ModelSet.load([model], detector, *args))

    @property
    def network(self) -> GPEN:
        """The one that restores; the smallest that is loaded by now where each face takes what suits it."""
        return self.models.runners[0].network

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the faces that can be restored, in pixels, rising; several with the model `auto`."""
        return self.models.sizes

    @property
    def detector(self) -> Detector:
        return self.models.detector

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.models.device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks' convolutions compute in."""
        return self.models.dtype

    def modules(self) -> tuple[torch.nn.Module, ...]:
        """All networks that are loaded. They compute where their weights are, so a host may move them between calls;
        `restore` needs them on `device`."""
        return self.models.modules()

    def move_to(self, device: torch.device) -> None:
        """Move all networks that are loaded to `device`. Where they do not fit there together, the model `auto` drops its
        networks (see `unload`).

        Raises `OutOfMemory` where they do not fit; all weights are on the CPU then."""
        self.models.move_to(device)

    def unload(self) -> bool:
        """Forget the networks that the model `auto` loaded. Each is loaded again when a face needs it. Returns whether
        there were any."""
        return self.models.unload()

    def set_unload_callback(self, callback: Callable[[Sequence[torch.nn.Module]], None]) -> None:
        """For a host that keeps references to `modules`: `callback` is called with the networks that the model `auto` drops
        to make room, before it loads the next one. Their memory is free only when the host has released them, too."""
        self.models.set_unload_callback(callback)

    def activation_bytes(self) -> int:
        """For a host that makes room: estimated memory of one face, or of detection, on the device beside the weights."""
        return self.models.activation_bytes()

    def release_memory(self) -> None:
        """Gives back what is kept between faces so that the next one is faster (on the CPU, 0.3 to 0.8 GB at 2048)."""
        self.models.release_memory()

    def compile(self) -> None:
        """For many faces on a CUDA or ROCm device: compiles the network (torch.compile) and records it as CUDA graphs, see
        `GPEN.record`. It warns of what does not work; elsewhere it does nothing but that (measured: no faster on a CPU)."""
        self.models.compile()

    @oom_context("the networks", SMALLER_MODEL_HINT)
    def prepare(self, options: RestoreOptions, progress: Progress | None = None) -> None:
        """Loads what restoring with these options needs beside the network and the detector: the face parser, the network
        that enlarges, or nothing.

        Raises `MissingWeights` for a parse mask, regions to be kept or an upscaler whose weights are not there and cannot
        be fetched, `MissingDependency` for an upscaler that no package builds, `OutOfMemory` where they do not fit."""
        self.models.mask_models(options, progress or no_progress)
        self.models.upscaler(options, progress or no_progress)

    def restore(
        self,
        image: object,
        options: RestoreOptions | None = None,
        before_swap: object | None = None,
        background: object | None = None,
        *,
        region_mask: NDArray[Any] | None = None,
        boxes: Sequence[Box] | None = None,
        progress: Progress | None = None,
        max_memory: int | None = None,
        **changes: Any,
    ) -> RestoreResult:
        """Restores the faces of one image; what goes with it is described at `RestoreInput`. `changes` are fields of
        `RestoreOptions`, which replace those of `options`: `restore("photo.jpg", strength=0.8)`. `restorer(image)` is the
        same. See `restore_batch`."""
        restore_input = RestoreInput(image, before_swap, background, region_mask, boxes)
        return self.restore_batch([restore_input], options, progress=progress, max_memory=max_memory, **changes)[0]

    __call__ = restore

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.sizes))
        return f"FaceRestorer({sizes} px, {self.device}, {str(self.dtype).removeprefix('torch.')})"

    @oom_context("these images", f"{SMALLER_MODEL_HINT}, choose a smaller detection size")
    def restore_batch(
        self,
        images: Sequence[object],
        options: RestoreOptions | None = None,
        *,
        progress: Progress | None = None,
        keep_crops: bool = False,
        max_memory: int | None = None,
        **changes: Any,
    ) -> list[RestoreResult]:
        """Restores the faces of several images, in batches across them. Each is a `RestoreInput`, or what its `image` may
        be. `changes` are fields of `RestoreOptions`, as in `restore`. Inputs are not changed.

        `progress` counts faces, before them tiles of images to be enlarged, and is also called between the steps of one
        face; it stops the work by raising `Interrupted`. `max_memory` is in bytes and bounds the networks' activations, and
        what each image takes that is enlarged or given by its path.
        Raises `InputError` for what is no image, for boxes and masks that are not finite and for a background that is
        smaller or of other proportions; `OptionsError` for one beside `upscale`; `MissingWeights` for a parse mask without
        ParseNet's file and for an upscaler without its own, `MissingDependency` for one that no package builds;
        `OutOfMemory` if the images, enlarging, detection, one face, its mask or its repetition in float32 do not fit."""
        ForkGuard.check()
        options = replace(options or RestoreOptions(), **changes)
        inputs = [one if isinstance(one, RestoreInput) else RestoreInput(one) for one in images]
        notify = progress or no_progress
        timer = StageTimer()
        upload_cache = UploadCache(MAX_CACHED_BYTES)
        run = _RestoreRun(self._make_compositor(options, timer, notify, upload_cache), timer, notify, keep_crops, max_memory)
        if options.upscale != 1:
            with run.timer.stage("upscale"):
                upscaler = self.models.upscaler(options, notify)
                inputs = [with_upscaled_background(frame, options, upscaler, notify, max_memory) for frame in inputs]
        with run.timer.stage("detect"):
            sessions = self.start_sessions(inputs, options, notify, max_memory, upload_cache)
        self._restore_faces(sessions, run)
        return [self._build_result(repair, run) for repair in sessions]

    def start_sessions(
        self,
        inputs: Sequence[RestoreInput],
        options: RestoreOptions,
        progress: Progress | None = None,
        max_memory: int | None = None,
        upload_cache: UploadCache | None = None,
    ) -> list[RestoreSession]:
        """The frames with their faces found, numbered and chosen, none restored yet. `upload_cache` keeps what goes to the
        device for it."""
        ForkGuard.check()
        sessions = [RestoreSession(frame, options, max_memory) for frame in inputs]
        on_tick = partial(progress or no_progress, ProgressEvent("detect", 0, None, "image", "Detecting faces"))
        to_detect = [session for session in sessions if not session.is_aligned]
        requests = [(repair.image, repair.boxes) for repair in to_detect]
        for repair, faces in zip(to_detect, _detect(self.detector, requests, options, on_tick, upload_cache)):
            repair.set_detections(faces)
        for repair in sessions:
            if repair.is_aligned:
                repair.set_detections(())
        return sessions

    def detect(self, images: Sequence[object], options: RestoreOptions | None = None) -> list[list[Face]]:
        """The faces of each image in the options' order, none restored; `reason` says which no head can be.

        `images` are what `RestoreInput.image` may be; boxes and landmarks are in pixels of each.
        Raises `InputError` for what is no image, `OutOfMemory` where not even one image fits the device. Safe from
        several threads."""
        return detect_faces(self.detector, images, options)

    @oom_context("this image", "choose a smaller detection size")
    def select_faces(self, restore_input: RestoreInput, options: RestoreOptions | None = None) -> tuple[Face, ...]:
        """The faces as `restore` numbers and chooses them, none restored; `reason` says why one would be left alone.

        Raises what `restore` raises, but for the network's."""
        return tuple(self.start_sessions([restore_input], options or RestoreOptions())[0].faces)

    def _restore_faces(self, sessions: Sequence[RestoreSession], run: _RestoreRun) -> None:
        by_size: dict[int, list[FaceTask]] = {}

        def size_for(session: RestoreSession, side: float) -> int:
            size = self.models.runner_for(side, run.progress).network.size
            advice = self.models.advise(side, size)
            if advice is not None and advice not in session.notes:
                session.notes.append(advice)
            return size

        for session in sessions:
            for number, alignment, target in session.alignments(partial(size_for, session)):
                by_size.setdefault(alignment.size, []).append(FaceTask(session, number, alignment, target))
        run.total = sum(map(len, by_size.values()))
        run.report()
        for size, tasks in by_size.items():
            self._restore_tasks(self.models.runner_for(size, run.progress), tasks, run)

    def _make_compositor(
        self, options: RestoreOptions, timer: StageTimer, progress: Progress, upload_cache: UploadCache
    ) -> FaceCompositor[Any]:
        """Where faces are cut out and put back: on the networks' device where it can, else on the CPU. Raises as
        `ModelSet.mask_models`."""
        mask_models = self.models.mask_models(options, progress)
        if supported_on_device(options) and supports_image_ops(self.device):
            return TorchCompositor(self.device, mask_models, timer, upload_cache)
        return OpenCVCompositor(mask_models, timer)

    def _restore_tasks(self, runner: GPENRunner, tasks: Sequence[FaceTask], run: _RestoreRun) -> None:
        compositor = run.compositor
        compositor.begin(tasks)
        for output in runner.run_batches(tasks, compositor.crop, run.timer, run.max_memory, run.on_tick):
            task = output.item
            if output.restored is None:
                task.session.skip(task.number, output.note or "")
            else:
                pasted = compositor.paste(task, output.crop, output.restored, output.note)
                if run.keep_crops:
                    run.crops.setdefault(task.session, {})[task.number] = compositor.to_numpy(pasted)
                del pasted
            del output  # see `run_with_oom_backoff`
            compositor.flush(task)
            run.done += 1
            run.report()

    def _build_result(self, session: RestoreSession, run: _RestoreRun) -> RestoreResult:
        smallest, largest = self.detector.detectable_sizes(session.image, session.options.detection_size)
        crops = tuple(crop for _, crop in sorted(run.crops.get(session, {}).items()))
        return RestoreResult(
            session.canvas.mask,
            tuple(session.faces),
            smallest,
            largest,
            run.timer.seconds,
            session.canvas.result,
            crops,
            tuple(session.notes),
            session.source_file,
        )


@oom_context("these images", "choose a smaller detection size")
def detect_faces(detector: Detector, images: Sequence[object], options: RestoreOptions | None = None) -> list[list[Face]]:
    """See `FaceRestorer.detect`."""
    ForkGuard.check()
    options = options or RestoreOptions()
    found = _detect(detector, [(load_image(image), None) for image in images], options, lambda: None)
    return [flag_implausible(sort_faces(faces, options.order)) for faces in found]


def _detect(
    detector: Detector,
    requests: Sequence[tuple[ImageData, Sequence[Box] | None]],
    options: RestoreOptions,
    on_tick: Callable[[], None],
    upload_cache: UploadCache | None = None,
) -> Iterator[list[Face]]:
    """Images are reduced where the detector computes, if that does what it takes and one fits it, else on the CPU."""
    cache = upload_cache or UploadCache(0)

    def run(batch: Sequence[tuple[ImageData, Sequence[Box] | None]]) -> list[list[Face]]:
        args = ([one for one, _ in batch], options, [boxes for _, boxes in batch], on_tick)
        device = detector.device
        if supports_image_ops(device):
            try:
                return detector.detect(*args, partial(TorchImageSource, device=device, upload_cache=cache))
            except Exception as error:
                cache.clear()
                if len(batch) > 1 or not is_out_of_memory(error):
                    raise
            log.warning("The image does not fit on the device next to the face detector; downscaling it on the CPU.")
        return detector.detect(*args)

    for _, found in run_with_oom_backoff(requests, detector.batch_size, run, "image", "choose a smaller detection size"):
        yield from found

"""Restores the faces in images: image -> faces -> crops -> network -> image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import torch
from numpy.typing import NDArray

from ..errors import oom_context
from ..faces.detection.retinaface import Detector
from ..faces.face import Face
from ..images.size_limits import NO_LIMITS, ReadLimits
from ..options import FACE_EMBEDDER, RestoreOptions, required_weights
from ..options.spec import check_range
from ..progress import Progress, no_progress
from ..weights.download_options import DownloadOptions
from ..weights.folders import Folders
from . import operations
from .devices import SMALLER_MODEL_HINT, ForkGuard, check_memory
from .face_detection import detect_faces, detect_in_batches
from .gpen_runner import Network
from .inputs import Boxes, RestoreInput, to_inputs, with_upscaled_background
from .model_set import DEFAULT_DETECTOR, DEFAULT_MODEL, ModelSet
from .restore_result import RestoreResult
from .restore_run import RestoreRun
from .session import RestoreSession
from .torch_image import UploadCache
from .upscale import LANCZOS


class FaceRestorer:
    """Detects faces, restores them and pastes them back. Create it with `load`.

    It can be used from several threads. They share the networks, but not the memory kept for the next face. In a process
    that was forked after networks were loaded, it raises `DeviceError`, because torch's threads are missing there. Start
    such processes with `spawn`, and load a restorer in each of them: it cannot be pickled. Results and options can."""

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
        offload_device: str | torch.device | None = None,
        upscaler: str = LANCZOS,
        prefetch_auto: bool = True,
    ) -> FaceRestorer:
        """Load the networks. Missing weights of the catalog are downloaded.

        `model` and `detector` are names in the models folder, or paths. The model `auto` restores each face with the
        smallest downloaded network whose crop is at least as large as the face's, from 512 on. `auto:256` starts at 256.
        Each network is loaded on first use. A face that is larger than all networks uses the largest, and a note of the
        result names the one that would fit. If no network is present, `auto` downloads the one for 2048, without
        `prefetch_auto` only when a face needs it.

        `models_dir` is one or several folders, by default `$GPEN_MODELS_DIR`, else the user's cache directory. Downloads go
        to the first, unless `downloads` (by default from the environment) forbids them. `detection_dir` sets separate
        folders for the detector and the face parser. `offload_device` keeps the weights on that device, for hosts that move
        them (see `modules`). `upscaler` is downloaded if it is missing, see `RestoreOptions`. `progress` counts the bytes of
        downloads, then models; it stops the work by raising `Interrupted`.

        Raises `MissingWeights` (a `WeightsError`) with the file and its folder, `WeightsError` for a rejected file,
        `OptionsError` for an unknown precision, `DeviceError` for an unavailable device or precision, `OutOfMemory`, and
        `MissingDependency` if no installed package can build the upscaler."""
        models = ModelSet.load(
            [model],
            detector,
            models_dir=models_dir,
            device=device,
            dtype=dtype,
            progress=progress,
            downloads=downloads,
            detection_dir=detection_dir,
            offload_device=offload_device,
            upscaler=upscaler,
            prefetch_auto=prefetch_auto,
        )
        return cls(models)

    @property
    def network(self) -> Network:
        """The restoration network. With the model `auto`, the smallest that is currently loaded."""
        return self.models.runners[0].network

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the available networks in pixels, ascending; more than one only with the model `auto`."""
        return self.models.sizes

    @property
    def weights(self) -> tuple[dict[str, str], ...]:
        """The files of the loaded restoration networks; see `GPENRunner.weights`."""
        return self.models.weights

    @property
    def detector(self) -> Detector:
        return self.models.detector

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.models.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the networks' convolutions."""
        return self.models.dtype

    @property
    def can_measure_identity(self) -> bool:
        """Whether SFace is downloaded, so that `measure_identity` downloads nothing."""
        return self.models.identity.is_present

    def require_restoration(self, use: str) -> None:
        """Raise `OptionsError` if the network colors or fills faces. `use` is what it cannot be used for."""
        operations.require_restoration(self.models.operation, use)

    def modules(self) -> tuple[torch.nn.Module, ...]:
        """Return all loaded networks. A host may move them between calls, but `restore` needs them on `device`."""
        return self.models.modules()

    def move_to(self, device: torch.device) -> None:
        """Move all loaded networks to `device`. If they do not fit, the model `auto` unloads its networks (see `unload`).

        Raises `OutOfMemory` if they still do not fit. Then all weights are on the CPU."""
        self.models.move_to(device)

    def unload(self) -> bool:
        """Unload the networks of the model `auto`. Each is loaded again on its next use. Returns whether there were any."""
        return self.models.unload()

    def set_unload_callback(self, callback: Callable[[Sequence[torch.nn.Module]], None]) -> None:
        """Set a callback for hosts that keep references to `modules`.

        It is called with the networks that the model `auto` unloads, before the next one is loaded. Their memory is free
        only after the host has released them, too."""
        self.models.set_unload_callback(callback)

    def activation_bytes(self) -> int:
        """Estimate the device memory in bytes for one face or for detection, without the weights."""
        return self.models.activation_bytes()

    def release_memory(self) -> None:
        """Release the memory that is kept between faces for speed (on the CPU 0.3 to 0.8 GB at 2048)."""
        self.models.release_memory()

    def compile(self) -> None:
        """Compile the network with torch.compile and capture it as CUDA graphs, see `GPEN.capture`.

        This is faster for many faces on CUDA and ROCm. On other devices, and if it fails, it only logs a warning."""
        self.models.compile()

    @oom_context("the networks", SMALLER_MODEL_HINT)
    def prepare(self, options: RestoreOptions, progress: Progress | None = None) -> None:
        """Load what these options need: the face parser, the upscaler and the face embedder.

        Raises `MissingWeights` if weights are missing and cannot be downloaded, `MissingDependency` if no installed package
        can build the upscaler, and `OutOfMemory`."""
        self.models.mask_models(options, progress or no_progress)
        self.models.upscaler(options, progress or no_progress)
        if FACE_EMBEDDER in required_weights(options):
            self.models.identity.embedder(progress or no_progress)

    def read_references(self, options: RestoreOptions, progress: Progress | None = None) -> None:
        """Read the reference photos of these options now, and not with the first image. Raises `InputError` for one without
        exactly one face, and the errors of `prepare`."""
        self.models.identity.people(options, progress or no_progress)

    def restore(
        self,
        image: object,
        options: RestoreOptions | None = None,
        before_swap: object | None = None,
        background: object | None = None,
        *,
        region_mask: NDArray[Any] | None = None,
        boxes: Boxes | None = None,
        progress: Progress | None = None,
        max_memory: int | None = None,
        max_pixels: int | None = None,
        measure_identity: bool = False,
        **changes: Any,
    ) -> RestoreResult:
        """Restore the faces in one image. `restorer(image)` is the same.

        `RestoreInput` describes the inputs. `changes` are fields of `RestoreOptions` that replace those of `options`:
        `restore("photo.jpg", strength=0.8)`. Errors as in `restore_batch`."""
        (result,) = self.restore_batch(
            [RestoreInput(image, before_swap, background, region_mask, boxes)],
            options,
            progress=progress,
            max_memory=max_memory,
            max_pixels=max_pixels,
            measure_identity=measure_identity,
            **changes,
        )
        return result

    __call__ = restore

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.sizes))
        return f"FaceRestorer({sizes} px, {self.device}, {str(self.dtype).removeprefix('torch.')})"

    @oom_context("these images", f"{SMALLER_MODEL_HINT}, choose a smaller detection size")
    def restore_batch(
        self,
        images: Iterable[object],
        options: RestoreOptions | None = None,
        *,
        progress: Progress | None = None,
        keep_crops: bool = False,
        max_memory: int | None = None,
        max_pixels: int | None = None,
        measure_identity: bool = False,
        **changes: Any,
    ) -> list[RestoreResult]:
        """Restore the faces in several images, in batches across the images.

        Each image is a `RestoreInput`, or a value for its field `image`. `changes` are fields of `RestoreOptions`, as in
        `restore`. Inputs are not changed.

        `progress` counts tiles while upscaling, then faces. It is also called between the steps of one face, and stops the
        work by raising `Interrupted`. `max_memory` limits, in bytes, the networks' activations and each image that is read
        from a path or upscaled. `max_pixels` (at least 1) limits the pixels of each image that is read from a file or from
        bytes; by default, 178,956,970 are allowed, and more if half of the machine's memory holds them. `measure_identity`
        sets `Face.identity` of each restored face, for which SFace is downloaded if it is missing.

        A network that colors or fills faces (`pipeline.operations`) ignores the options `color`, `fidelity` and `preserve`.

        Raises `ImageTooLarge` for too many pixels, before they are decoded; `InputError` for invalid images, for boxes and
        masks that are not finite, for a missing region mask if the network fills a region, and for a background that is
        smaller or has another aspect ratio; `OptionsError` for a background with `upscale` and an invalid limit;
        `MissingWeights` if weights of ParseNet or of the upscaler are missing; `MissingDependency` if no installed package
        can build the upscaler; `OutOfMemory`."""
        ForkGuard.check()
        options = replace(RestoreOptions.or_default(options), **changes)
        operation = self.models.operation
        options = operations.adapt_options(options, operation)
        check_memory(max_memory=max_memory)
        if max_pixels is not None:
            check_range("max_pixels", max_pixels, 1, whole=True)
        limits = ReadLimits(max_memory, max_pixels)
        inputs = to_inputs(images)
        for one in inputs:
            operations.check_input(one, operation)
        notify = progress or no_progress
        run = RestoreRun(self.models, options, notify, max_memory, keep_crops)
        if options.upscale != 1:
            with run.timer.stage("upscale"):
                upscaler = self.models.upscaler(options, notify)
                inputs = [with_upscaled_background(one, options, upscaler, notify, limits) for one in inputs]
        with run.timer.stage("detect"):
            sessions = self.start_sessions(inputs, options, notify, run.upload_cache, limits)
        for session in sessions:
            operations.prepare(session, operation)
        run.restore_faces(sessions)
        for session in sessions:
            operations.finish(session, operation)
        if measure_identity:
            with run.timer.stage("identity"):
                for session in sessions:
                    session.measure_identity(self.models.identity.embedder(notify))
        return [run.result(session) for session in sessions]

    def start_sessions(
        self,
        inputs: Iterable[object],
        options: RestoreOptions,
        progress: Progress | None = None,
        upload_cache: UploadCache | None = None,
        limits: ReadLimits = NO_LIMITS,
    ) -> list[RestoreSession]:
        """Detect, number and select the faces of each input, without restoring them. Inputs are those of `restore_batch`.

        `upload_cache` keeps images on the device for later steps."""
        ForkGuard.check()
        notify = progress or no_progress
        people = self.models.identity.people(options, notify)
        sessions = [RestoreSession(one, options, people, limits) for one in to_inputs(inputs)]
        to_detect = [session for session in sessions if not session.is_aligned]
        requests = [(session.image, session.boxes) for session in to_detect]
        for session, faces in zip(to_detect, detect_in_batches(self.detector, requests, options, notify, upload_cache)):
            session.set_detections(faces)
        for session in sessions:
            if session.is_aligned:
                session.set_detections(())
        return sessions

    def detect(
        self, images: Iterable[object], options: RestoreOptions | None = None, progress: Progress | None = None
    ) -> list[list[Face]]:
        """Detect the faces of each image, sorted as in the options. `Face.reason` marks implausible ones.

        `images` are values for `RestoreInput.image`. Boxes and landmarks are in pixels of the image. `progress` is called
        before each pass of the network and may raise to stop. Can be used from several threads. Raises `InputError` for
        invalid images, and `OutOfMemory` if one image does not fit."""
        return detect_faces(self.detector, images, options, progress=progress or no_progress)

    @oom_context("this image", "choose a smaller detection size")
    def select_faces(self, image: object, options: RestoreOptions | None = None) -> tuple[Face, ...]:
        """Return the faces as `restore` numbers and selects them. `Face.reason` is why a face would be skipped.

        `image` is a `RestoreInput`, or a value for its field `image`. Errors as in `restore`, but not the network's."""
        return tuple(self.start_sessions([image], RestoreOptions.or_default(options))[0].faces)

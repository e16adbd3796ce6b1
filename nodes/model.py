"""The GPEN_MODEL that nodes pass on: a restorer whose weights ComfyUI's memory manager moves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management as management
import comfy.model_patcher
import torch
from numpy.typing import NDArray

from ..gpen_core import (
    AUTO_MODELS,
    ErrorConverter,
    MissingWeights,
    OutOfMemory,
    ProgressEvent,
    RestoreOptions,
    WeightsChanged,
)
from . import folders, self_test
from .host_progress import NodeProgress

if TYPE_CHECKING:  # imported on first use to keep ComfyUI's startup fast
    from ..gpen_core import Face, FaceCrops, FaceRestorer, RestoreInput, RestoreResult

Pixels = NDArray[Any]
Item = TypeVar("Item")

MAX_CHUNK_BYTES = 200 << 20  # of images per chunk; their faces go through the network in batches
CHANGED_HELP = (
    "In ComfyUI, paste the SHA-256 of the file into accept_changed, an advanced input of Load GPEN Model, and connect that "
    "node to this one."
)
FOLDERS_HELP = (
    f"In ComfyUI, put GPEN files into models/{folders.MODELS}, and detectors and other models for faces into "
    f"models/{folders.DETECTION}. You can name other folders in extra_model_paths.yaml."
)
MIRROR_HELP = "Set the environment variable GPEN_MIRROR to download from another source."
FREE_MEMORY_FRACTION = 0.8  # share of the free memory that a batch of faces may use


class GpenModel:
    """GPEN with a detector. ComfyUI moves the weights; they are on the device while a node runs."""

    def __init__(self, restorer: FaceRestorer) -> None:
        self.restorer = restorer
        self._patchers: dict[int, Any] = {}
        restorer.set_unload_callback(partial(_forget_patchers, self._patchers))

    @classmethod
    def load(cls, model: str | None, detector: str, precision: str, reporter: NodeProgress) -> GpenModel:
        """Find or download the files and build the networks on ComfyUI's offload device. Without `model`, a network is only
        downloaded when a face needs it."""
        from ..gpen_core import FaceRestorer

        device = management.get_torch_device()
        with _comfyui_errors():
            restorer = FaceRestorer.load(
                model or AUTO_MODELS[0],
                detector,
                folders.model_dirs(),
                device,
                _resolve_precision(precision, device),
                progress=reporter,
                detection_dir=folders.detection_dirs(),
                offload_device=management.unet_offload_device(),
                prefetch_auto=model is not None,
            )
        return cls(restorer)

    def restore(
        self, frames: Iterable[RestoreInput], count: int, options: RestoreOptions, keep_crops: bool, reporter: NodeProgress
    ) -> Iterator[RestoreResult]:
        """Restore `count` frames in chunks and yield the results one by one. See `FaceRestorer.restore_batch` and
        `device_session`."""
        done = 0
        with self.device_session(options, reporter) as max_memory:
            for chunk in _chunked(frames, _frame_bytes):
                progress = reporter.subrange(done / count, (done + len(chunk)) / count)
                yield from self.restorer.restore_batch(
                    chunk, options, progress=progress, keep_crops=keep_crops, max_memory=max_memory
                )
                done += len(chunk)
                # Also for chunks without faces.
                progress(ProgressEvent("restore", len(chunk), len(chunk), "image", "Restoring faces"))

    def device_session(self, options: RestoreOptions, reporter: NodeProgress) -> _DeviceSession:
        """Return a context that keeps the needed networks on the device. Its value is the memory limit in bytes (None on a
        CPU). It converts out of memory errors to the type that makes ComfyUI free memory."""
        return _DeviceSession(self, options, reporter)

    def crop(
        self, frames: Iterable[RestoreInput], count: int, options: RestoreOptions, size: int, reporter: NodeProgress
    ) -> Iterator[FaceCrops]:
        """Crop the faces of `count` frames in chunks. See `crop_faces`."""
        from ..gpen_core import crop_faces

        self.load_on_device(options, reporter)
        done = 0
        with _comfyui_errors():
            for chunk in _chunked(frames, _frame_bytes):
                yield from crop_faces(self.restorer, chunk, options, size, reporter.subrange(done / count, done / count))
                done += len(chunk)
                reporter(ProgressEvent("detect", done, count, "image", "Detecting faces"))

    def detect(
        self, images: Iterable[Pixels], count: int, options: RestoreOptions, reporter: NodeProgress
    ) -> Iterator[tuple[Pixels, list[Face]]]:
        """Yield each of `count` images with its faces, working in chunks. See `FaceRestorer.detect`."""
        detector = self.restorer.detector
        self._load([self._patcher(detector.network)], detector.activation_bytes)
        done = 0
        with _comfyui_errors():
            for chunk in _chunked(images, lambda image: image.nbytes):
                progress = reporter.subrange(done / count, done / count)
                yield from zip(chunk, self.restorer.detect(chunk, options, progress))
                done += len(chunk)
                reporter(ProgressEvent("detect", done, count, "image", "Detecting faces"))

    def load_on_device(self, options: RestoreOptions, reporter: NodeProgress) -> int | None:
        """Move the networks to the device. Return the memory limit in bytes, None on a CPU. If the networks do not fit
        together, `auto` unloads its networks and loads each when a face needs it."""
        restorer = self.restorer
        with _comfyui_errors():
            restorer.prepare(options, reporter)
        if not self._try_load_all():
            self._load_all()
        if restorer.device.type == "cpu":
            return None
        return int(management.get_free_memory(restorer.device) * FREE_MEMORY_FRACTION)

    def _try_load_all(self) -> bool:
        """Return False if `auto` had to unload its networks. Then there is room for the others."""
        try:
            self._load_all()
        except torch.cuda.OutOfMemoryError:
            if not self.restorer.unload():
                raise
            return False
        return True

    def _load_all(self) -> None:
        self._load([self._patcher(module) for module in self.restorer.modules()], self.restorer.activation_bytes())

    def _load(self, patchers: list[Any], memory: int) -> None:
        """Move the networks to the device at each run, because other nodes may have moved them off it."""
        load = management.load_models_gpu
        known = inspect.signature(load).parameters
        more = {"force_full_load": True} if "force_full_load" in known else {}
        load(patchers, memory_required=memory, **more)
        for patcher in patchers:  # --novram leaves parameters on the CPU, and ComfyUI never moves buffers
            patcher.model.to(patcher.load_device)
            if hasattr(patcher.model, "model_loaded_weight_memory"):  # the memory that ComfyUI counts as freed on unloading
                patcher.model.model_loaded_weight_memory = patcher.model_size()

    def _patcher(self, module: torch.nn.Module) -> Any:
        if id(module) not in self._patchers:
            kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
            self._patchers[id(module)] = kind(
                module, load_device=self.restorer.device, offload_device=management.unet_offload_device()
            )
        return self._patchers[id(module)]


def _forget_patchers(patchers: dict[int, Any], dropped: Sequence[torch.nn.Module]) -> None:
    """Not a method: with a reference cycle, only the garbage collector would free the restorer."""
    for module in dropped:
        patchers.pop(id(module), None)


def _comfyui_errors() -> ErrorConverter:
    """Convert out of memory errors to the type that makes ComfyUI free memory, and add ComfyUI's help to missing and changed
    files."""
    return ErrorConverter(_to_comfyui_error)


def _to_comfyui_error(error: Exception) -> Exception | None:
    if isinstance(error, OutOfMemory):
        return torch.cuda.OutOfMemoryError(str(error))
    if isinstance(error, MissingWeights):
        return MissingWeights("\n".join([str(error), " ".join([FOLDERS_HELP, *[MIRROR_HELP] * folders.is_downloading()])]))
    return WeightsChanged(f"{error}\n{CHANGED_HELP}") if isinstance(error, WeightsChanged) else None


class _DeviceSession:
    """See `GpenModel.device_session`. It is not a generator for the reason given in `ErrorConverter`."""

    def __init__(self, model: GpenModel, options: RestoreOptions, reporter: NodeProgress) -> None:
        self._model, self._options, self._reporter = model, options, reporter
        self._errors = _comfyui_errors()

    def __enter__(self) -> int | None:
        restorer = self._model.restorer
        max_memory = self._model.load_on_device(self._options, self._reporter)
        try:
            with self._errors:
                self_test.run_once(restorer.device, restorer.dtype)  # uses the memory that was just freed
        except BaseException:
            restorer.release_memory()
            raise
        return max_memory

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._model.restorer.release_memory()
        self._errors.__exit__(kind, error, trace)


def _chunked(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    chunk_bytes = 0
    for item in items:
        chunk.append(item)
        chunk_bytes += size_of(item)
        if chunk_bytes > MAX_CHUNK_BYTES:
            yield chunk
            chunk, chunk_bytes = [], 0
    if chunk:
        yield chunk


def _frame_bytes(frame: RestoreInput) -> int:
    images: tuple[Any, ...] = (frame.image, frame.before_swap, frame.background)
    return sum(image.nbytes for image in images if image is not None)


def _resolve_precision(name: str, device: torch.device) -> str:
    """`auto` follows gpen_core's rule, except on GPUs where ComfyUI avoids float16."""
    if name == "auto" and device.type == "cuda" and not management.should_use_fp16(device):
        return "fp32"
    return name

"""What travels between the nodes: a restorer whose weights ComfyUI's memory manager moves."""

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

from ..gpen_core import ErrorConverter, GpenError, OutOfMemory, ProgressEvent, RestoreOptions
from . import folders, self_test
from .host_progress import Reporter

if TYPE_CHECKING:  # imported when first used: ComfyUI starts no slower for it
    from ..gpen_core import Cropped, Face, FaceRestorer, Frame, RestoreResult

Pixels = NDArray[Any]
Item = TypeVar("Item")

BYTES_AT_ONCE = 200 << 20  # of pictures; their faces go through the network in batches
FREE_SHARE = 0.8  # of free memory that a batch of faces may plan with


class GpenModel:
    """GPEN with a detector. Where its weights are is up to ComfyUI; they are on the device while a node runs."""

    def __init__(self, restorer: FaceRestorer) -> None:
        self.restorer = restorer
        self._patchers: dict[int, Any] = {}
        restorer.when_dropped(partial(_forget, self._patchers))

    @classmethod
    def load(cls, model: str, detector: str, precision: str, reporter: Reporter) -> GpenModel:
        """Finds or fetches the files and builds the networks, on the device where unused weights wait."""
        from ..gpen_core import FaceRestorer

        device = management.get_torch_device()
        with _memory_error_of_comfyui():
            restorer = FaceRestorer.load(
                model,
                detector,
                folders.models(),
                device,
                _precision(precision, device),
                progress=reporter,
                detection_dir=folders.detection(),
                weights_on=management.unet_offload_device(),
            )
        return cls(restorer)

    def restore(
        self, frames: Iterable[Frame], count: int, options: RestoreOptions, keep_crops: bool
    ) -> Iterator[RestoreResult]:
        """Restores `count` frames, some at a time, and gives their results one by one; see `FaceRestorer.restore_all` and
        `at_work`."""
        reporter = Reporter()
        done = 0
        with self.at_work(options, reporter) as max_memory:
            for some in _some_at_a_time(frames, _bytes_of):
                progress = reporter.part(done / count, (done + len(some)) / count)
                yield from self.restorer.restore_all(
                    some, options, progress=progress, keep_crops=keep_crops, max_memory=max_memory
                )
                done += len(some)
                # Also where there were no faces.
                progress(ProgressEvent("restore", len(some), len(some), "image", "Restoring faces"))

    def at_work(self, options: RestoreOptions, reporter: Reporter) -> _AtWork:
        """All that the options need is on the device; gives the bytes that restoring may plan with there. Running out of
        memory is raised as the error that ComfyUI acts on."""
        return _AtWork(self, options, reporter)

    def crop(self, frames: Iterable[Frame], count: int, options: RestoreOptions, size: int) -> Iterator[Cropped]:
        """The faces of each of `count` frames as squares, some at a time; see `crop_faces`."""
        from ..gpen_core import crop_faces

        reporter = Reporter()
        self.take_device(options, reporter)
        done = 0
        with _memory_error_of_comfyui():
            for some in _some_at_a_time(frames, _bytes_of):
                yield from crop_faces(self.restorer, some, options, size, reporter.part(done / count, done / count))
                done += len(some)
                reporter(ProgressEvent("detect", done, count, "image", "Detecting faces"))

    def detect(self, images: Iterable[Pixels], count: int, options: RestoreOptions) -> Iterator[tuple[Pixels, list[Face]]]:
        """Each of `count` images with its faces, some at a time; see `FaceRestorer.detect`."""
        detector, reporter = self.restorer.detector, Reporter()
        self._load([self._patcher(detector.network)], detector.working_bytes)
        done = 0
        with _memory_error_of_comfyui():
            for some in _some_at_a_time(images, lambda image: image.nbytes):
                yield from zip(some, self.restorer.detect(some, options))
                done += len(some)
                reporter(ProgressEvent("detect", done, count, "image", "Detecting faces"))

    def take_device(self, options: RestoreOptions, reporter: Reporter) -> int | None:
        """Puts the networks on the device; the bytes that restoring may plan with there. Where they do not fit together,
        `auto` drops its networks and loads each when a face needs it."""
        restorer = self.restorer
        with _memory_error_of_comfyui():
            restorer.prepare(options, reporter)
        if not self._has_loaded_all():
            self._load_all()
        if restorer.device.type == "cpu":
            return None
        return int(management.get_free_memory(restorer.device) * FREE_SHARE)

    def _has_loaded_all(self) -> bool:
        """False where `auto` had to drop its networks: now there is room for the rest."""
        try:
            self._load_all()
        except torch.cuda.OutOfMemoryError:
            if not self.restorer.drop():
                raise
            return False
        return True

    def _load_all(self) -> None:
        self._load([self._patcher(module) for module in self.restorer.modules()], self.restorer.working_bytes())

    def _load(self, patchers: list[Any], memory: int) -> None:
        """At each run: others may have put our weights off the device since."""
        load = management.load_models_gpu
        known = inspect.signature(load).parameters
        more = {"force_full_load": True} if "force_full_load" in known else {}
        load(patchers, memory_required=memory, **more)
        for patcher in patchers:  # --novram leaves parameters behind, and buffers are never listed
            patcher.model.to(patcher.load_device)
            if hasattr(patcher.model, "model_loaded_weight_memory"):  # by which it counts what unloading gives back
                patcher.model.model_loaded_weight_memory = patcher.model_size()

    def _patcher(self, module: torch.nn.Module) -> Any:
        if id(module) not in self._patchers:
            kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
            self._patchers[id(module)] = kind(
                module, load_device=self.restorer.device, offload_device=management.unet_offload_device()
            )
        return self._patchers[id(module)]


def _forget(patchers: dict[int, Any], dropped: Sequence[torch.nn.Module]) -> None:
    """Not a method: a restorer that refers to its model would be freed by the garbage collector only."""
    for module in dropped:
        patchers.pop(id(module), None)


def _memory_error_of_comfyui() -> ErrorConverter:
    """Running out of memory as the error on which ComfyUI makes room."""
    return ErrorConverter(lambda error: torch.cuda.OutOfMemoryError(str(error)) if isinstance(error, OutOfMemory) else None)


class _AtWork:
    """See `GpenModel.at_work`. No generator, for the reason that `ErrorConverter` gives."""

    def __init__(self, model: GpenModel, options: RestoreOptions, reporter: Reporter) -> None:
        self._model, self._options, self._reporter = model, options, reporter
        self._errors = _memory_error_of_comfyui()

    def __enter__(self) -> int | None:
        restorer = self._model.restorer
        max_memory = self._model.take_device(self._options, self._reporter)
        try:
            with self._errors:
                self_test.once(restorer.device, restorer.dtype)  # in the memory that was just made free
        except BaseException:
            restorer.release_memory()
            raise
        return max_memory

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._model.restorer.release_memory()
        self._errors.__exit__(kind, error, trace)


def _some_at_a_time(items: Iterable[Item], bytes_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    some: list[Item] = []
    held = 0
    for item in items:
        some.append(item)
        held += bytes_of(item)
        if held > BYTES_AT_ONCE:
            yield some
            some, held = [], 0
    if some:
        yield some


def _bytes_of(frame: Frame) -> int:
    pictures: tuple[Any, ...] = (frame.image, frame.before_swap, frame.background)
    return sum(picture.nbytes for picture in pictures if picture is not None)


def _precision(name: str, device: torch.device) -> str:
    """`auto` is gpen_core's measured rule, but for GPUs on which ComfyUI does not trust float16."""
    if name == "auto" and device.type == "cuda" and not management.should_use_fp16(device):
        return "fp32"
    return name


def require(model: GpenModel | None) -> GpenModel:
    if model is None:
        raise GpenError("No GPEN model is connected. Connect the output of Load GPEN Model.")
    return model

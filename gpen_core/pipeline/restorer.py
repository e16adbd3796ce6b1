"""The one place that ties the rooms together: picture -> faces -> crops -> network -> picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import is_out_of_memory, memory_for
from ..faces.detection.retinaface import Detector
from ..faces.face import Box, Face, faces_text
from ..faces.select import heads, in_order
from ..images.image import FloatImage, Picture
from ..network import GPEN
from ..options import RestoreOptions
from ..progress import Progress, ProgressEvent, StageTimer, no_progress
from ..weights.download_options import DownloadOptions
from ..weights.folders import Folders
from .compositor import Around, Task, WithOpenCV
from .device_check import supports_image_ops
from .devices import SMALLER_MODEL, Process, halving
from .gpen_runner import LoadedNetwork
from .inputs import Frame, Repair, enlarged, open_picture
from .model_set import DEFAULT_DETECTOR, DEFAULT_MODEL, Models
from .torch_compositor import OnDevice
from .torch_image import MOST_KEPT, Uploads
from .torch_image_source import DeviceScene
from .torch_postprocess import does
from .upscale import LANCZOS

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RestoreResult:
    """A restored picture and how it came about."""

    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each of its pixels is restored."""
    faces: tuple[Face, ...]
    """Every face found, numbered by its place."""
    smallest_face: float
    """Side in pixels of about the smallest face that could be found at this detection size."""
    largest_face: float
    """The same of the largest."""
    seconds: dict[str, float]
    """Wall time by stage: upscale if asked for, detect, align, network, mask, blend; of all pictures restored together."""
    picture: Picture
    """`image` before it was turned into the input's kind. Where nothing changed it is the input itself, not to be written
    to."""
    crops: tuple[FloatImage, ...] = ()
    """Each restored face as the network gave it, [S, S, 3] RGB in [0, 1], in `faces`' order, if they were to be kept."""
    notes: tuple[str, ...] = ()
    """What else is to be said, such as boxes in which no face was found."""

    @cached_property
    def image(self) -> Any:
        """Same kind, dtype, size and alpha as the input, or as the background where there was one (for a path: an array);
        with `RestoreOptions.upscale` enlarged, faces or none. Made when first asked for, and never the input itself."""
        return (self.picture if self.changed else self.picture.writable()).native()

    @property
    def changed(self) -> bool:
        return bool(self.mask.any())

    @property
    def summary(self) -> str:
        """One line for people: `3 faces found, 2 restored, 1 skipped`."""
        return faces_text(len(self.faces), sum(face.restored for face in self.faces))


@dataclass
class _Work:
    """What the faces of one call have in common."""

    around: Around[Any]
    watch: StageTimer
    progress: Progress
    keep_crops: bool
    max_memory: int | None
    done: int = 0
    total: int = 0
    crops: dict[Repair, dict[int, FloatImage]] = field(default_factory=dict)
    event: ProgressEvent = field(init=False)

    def tell(self) -> None:
        self.event = ProgressEvent("restore", self.done, self.total, "face", "Restoring faces")
        self.pulse()

    def pulse(self) -> None:
        """Sends the same event again. It is called between the layers of a network, where making one would cost time."""
        self.progress(self.event)


class FaceRestorer:
    """Finds faces, restores them and puts them back. Made with `load`.

    Restoring is safe from several threads: their faces then share the networks, not the memory kept for the next face. It
    is not safe in a child that was forked after networks were loaded (torch's threads are missing there): it raises
    `DeviceError`; start such processes with `spawn`."""

    def __init__(self, models: Models) -> None:
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
        weights_on: torch.device | None = None,
        upscaler: str = LANCZOS,
    ) -> FaceRestorer:
        """Loads the weights: `model` and `detector` are names looked up in the models folder, or files' paths.

        With the model `auto` each face takes the smallest released network whose square is at least as wide as its own, from
        512 on, loaded when first needed; `auto:256` begins at 256.
        `models_dir` is one folder or several, and defaults to `$GPEN_MODELS_DIR`, else the user's cache directory. A file
        of the catalog that is in none of them is fetched into the first, unless `downloads` (default: the environment's)
        says that it may not. The detector and the face parser have folders of their own where `detection_dir` says so.
        `weights_on` leaves the weights on that device, for a host that moves them itself (see `modules`). `upscaler`, as in
        `RestoreOptions`, is fetched with the others where it is missing.
        `progress` counts the bytes of a download, then models, and stops the work by raising `Interrupted`.
        Raises `MissingWeights` (a `WeightsError`) saying which file belongs where, `WeightsError` for a file that is
        refused, `DeviceError` for a device or precision that is not there, `OutOfMemory` where they do not fit,
        `MissingExtra` for an upscaler that no package builds.
        """
        given = (models_dir, device, dtype, progress, downloads, detection_dir, weights_on, upscaler)
        return cls(Models.load([model], detector, *given))

    @property
    def network(self) -> GPEN:
        """The one that restores; the smallest that is loaded by now where each face takes what suits it."""
        return self.models.networks[0].network

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
        networks (see `drop`).

        Raises `OutOfMemory` where they do not fit; all weights are on the CPU then."""
        self.models.move_to(device)

    def drop(self) -> bool:
        """Forget the networks that the model `auto` loaded. Each is loaded again when a face needs it. Returns whether
        there were any."""
        return self.models.drop()

    def when_dropped(self, told: Callable[[Sequence[torch.nn.Module]], None]) -> None:
        """For a host that keeps references to `modules`: `told` is called with the networks that the model `auto` drops to
        make room, before it loads the next one. Their memory is free only when the host has released them, too."""
        self.models.when_dropped(told)

    def working_bytes(self) -> int:
        """For a host that makes room: estimated memory of one face, or of detection, on the device beside the weights."""
        return self.models.working_bytes()

    def release_memory(self) -> None:
        """Gives back what is kept between faces so that the next one is faster (on the CPU, 0.3 to 0.8 GB at 2048)."""
        self.models.release_memory()

    def record(self) -> None:
        """For many faces on a CUDA or ROCm device: compiles the network (torch.compile) and records it as CUDA graphs, see
        `GPEN.record`. It warns of what does not work; elsewhere it does nothing but that (measured: no faster on a CPU)."""
        self.models.record()

    @memory_for("the networks", SMALLER_MODEL)
    def prepare(self, options: RestoreOptions, progress: Progress | None = None) -> None:
        """Loads what restoring with these options needs beside the network and the detector: the face parser, the network
        that enlarges, or nothing.

        Raises `MissingWeights` for a parse mask, regions to be kept or an upscaler whose weights are not there and cannot
        be fetched, `MissingExtra` for an upscaler that no package builds, `OutOfMemory` where they do not fit."""
        self.models.masking(options, progress or no_progress)
        self.models.upscaler(options, progress or no_progress)

    def restore(
        self,
        image: object,
        options: RestoreOptions | None = None,
        before_swap: object | None = None,
        background: object | None = None,
        *,
        region_mask: NDArray[np.floating] | None = None,
        boxes: Sequence[Box] | None = None,
        progress: Progress | None = None,
        max_memory: int | None = None,
    ) -> RestoreResult:
        """Restores the faces of one picture; what goes with it is described at `Frame`. See `restore_all`."""
        frame = Frame(image, before_swap, background, region_mask, boxes)
        return self.restore_all([frame], options, progress=progress, max_memory=max_memory)[0]

    @memory_for("these pictures", f"{SMALLER_MODEL}, choose a smaller detection size")
    def restore_all(
        self,
        frames: Sequence[Frame],
        options: RestoreOptions | None = None,
        *,
        progress: Progress | None = None,
        keep_crops: bool = False,
        max_memory: int | None = None,
    ) -> list[RestoreResult]:
        """Restores the faces of several pictures, in batches across them. Inputs are not changed.

        `progress` counts faces, before them tiles of pictures to be enlarged, and is also called between the steps of one
        face; it stops the work by raising `Interrupted`. `max_memory` is in bytes and bounds the networks' activations, and
        what each picture takes that is enlarged or given by its path.
        Raises `InputError` for what is no picture, for boxes and masks that are not finite and for a background that is
        smaller or of other proportions; `OptionsError` for one beside `upscale`; `MissingWeights` for a parse mask without
        ParseNet's file and for an upscaler without its own, `MissingExtra` for one that no package builds; `OutOfMemory` if
        the pictures, enlarging, detection, one face, its mask or its repetition in float32 do not fit.
        """
        Process.compute()
        options = options or RestoreOptions()
        tell = progress or no_progress
        watch = StageTimer()
        uploads = Uploads(MOST_KEPT)
        work = _Work(self._around(options, watch, tell, uploads), watch, tell, keep_crops, max_memory)
        if options.upscale != 1:
            with work.watch.stage("upscale"):
                upscaler = self.models.upscaler(options, tell)
                frames = [enlarged(frame, options, upscaler, tell, max_memory) for frame in frames]
        with work.watch.stage("detect"):
            repairs = self.find(frames, options, tell, max_memory, uploads)
        self._restore_faces(repairs, work)
        return [self._result(repair, work) for repair in repairs]

    def find(
        self,
        frames: Sequence[Frame],
        options: RestoreOptions,
        progress: Progress | None = None,
        max_memory: int | None = None,
        uploads: Uploads | None = None,
    ) -> list[Repair]:
        """The frames with their faces found, numbered and chosen, none restored yet. `uploads` keeps what goes to the device
        for it."""
        Process.compute()
        repairs = [Repair(frame, options, max_memory) for frame in frames]
        pulse = partial(progress or no_progress, ProgressEvent("detect", 0, None, "image", "Detecting faces"))
        looked_at = [repair for repair in repairs if not repair.is_aligned]
        searched = [(repair.picture, repair.boxes) for repair in looked_at]
        for repair, faces in zip(looked_at, _find(self.detector, searched, options, pulse, uploads)):
            repair.take(faces)
        for repair in repairs:
            if repair.is_aligned:
                repair.take(())
        return repairs

    def detect(self, images: Sequence[object], options: RestoreOptions | None = None) -> list[list[Face]]:
        """The faces of each picture in the options' order, none restored; `reason` says which no head can be.

        `images` are what `Frame.image` may be; boxes and landmarks are in pixels of each.
        Raises `InputError` for what is no picture, `OutOfMemory` where not even one picture fits the device. Safe from
        several threads."""
        return detect_faces(self.detector, images, options)

    @memory_for("this picture", "choose a smaller detection size")
    def choose(self, frame: Frame, options: RestoreOptions | None = None) -> tuple[Face, ...]:
        """The faces as `restore` numbers and chooses them, none restored; `reason` says why one would be left alone.

        Raises what `restore` raises, but for the network's."""
        return tuple(self.find([frame], options or RestoreOptions())[0].faces)

    def _restore_faces(self, repairs: Sequence[Repair], work: _Work) -> None:
        by_size: dict[int, list[Task]] = {}

        def size_for(side: float) -> int:
            return self.models.network_for(side, work.progress).network.size

        for repair in repairs:
            for number, alignment, target in repair.alignments(size_for):
                by_size.setdefault(alignment.size, []).append(Task(repair, number, alignment, target))
        work.total = sum(map(len, by_size.values()))
        work.tell()
        for size, tasks in by_size.items():
            self._restore_with(self.models.network_for(size, work.progress), tasks, work)

    def _around(self, options: RestoreOptions, watch: StageTimer, progress: Progress, uploads: Uploads) -> Around[Any]:
        """Where faces are cut out and put back: on the networks' device where it can, else on the CPU. Raises as
        `Models.masking`."""
        masking = self.models.masking(options, progress)
        if does(options) and supports_image_ops(self.device):
            return OnDevice(self.device, masking, watch, uploads)
        return WithOpenCV(masking, watch)

    def _restore_with(self, network: LoadedNetwork, tasks: Sequence[Task], work: _Work) -> None:
        around = work.around
        around.expect(tasks)
        for output in network.outputs(tasks, around.crop, work.watch, work.max_memory, work.pulse):
            task = output.item
            if output.restored is None:
                task.repair.leave(task.number, output.note or "")
            else:
                finished = around.put_back(task, output.crop, output.restored, output.note)
                if work.keep_crops:
                    work.crops.setdefault(task.repair, {})[task.number] = around.as_array(finished)
                del finished
            del output  # see `halving`
            around.finish(task)
            work.done += 1
            work.tell()

    def _result(self, repair: Repair, work: _Work) -> RestoreResult:
        smallest, largest = self.detector.sizes(repair.picture, repair.options.detection_size)
        crops = tuple(crop for _, crop in sorted(work.crops.get(repair, {}).items()))
        return RestoreResult(
            repair.canvas.mask,
            tuple(repair.faces),
            smallest,
            largest,
            work.watch.seconds,
            repair.canvas.result,
            crops,
            tuple(repair.notes),
        )


@memory_for("these pictures", "choose a smaller detection size")
def detect_faces(detector: Detector, images: Sequence[object], options: RestoreOptions | None = None) -> list[list[Face]]:
    """See `FaceRestorer.detect`."""
    Process.compute()
    options = options or RestoreOptions()
    found = _find(detector, [(open_picture(image), None) for image in images], options, lambda: None)
    return [heads(in_order(faces, options.order)) for faces in found]


def _find(
    detector: Detector,
    searched: Sequence[tuple[Picture, Sequence[Box] | None]],
    options: RestoreOptions,
    pulse: Callable[[], None],
    uploads: Uploads | None = None,
) -> Iterator[list[Face]]:
    """Pictures are reduced where the detector computes, if that does what it takes and one fits it, else on the CPU."""
    kept = uploads or Uploads(0)

    def run(some: Sequence[tuple[Picture, Sequence[Box] | None]]) -> list[list[Face]]:
        what = ([one for one, _ in some], options, [boxes for _, boxes in some], pulse)
        device = detector.device
        if supports_image_ops(device):
            try:
                return detector.detect(*what, partial(DeviceScene, device=device, uploads=kept))
            except Exception as error:
                kept.drop()
                if len(some) > 1 or not is_out_of_memory(error):
                    raise
            log.warning("A picture does not fit the device beside the face detector; it is reduced by the CPU.")
        return detector.detect(*what)

    for _, found in halving(searched, detector.at_once, run, "picture", "choose a smaller detection size"):
        yield from found

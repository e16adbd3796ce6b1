"""The one place that ties the rooms together: picture -> faces -> crops -> network -> picture."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .devices import CACHE_STRIP, halving, is_out_of_memory, pick_device, pick_dtype, plan
from .errors import MissingWeights
from .faces import mask as masks
from .faces.align import Alignment
from .faces.blend import match_colour, soften_small
from .faces.detect import Detector
from .faces.face import Box, Face
from .faces.select import heads, in_order
from .frame import Frame, Repair, open_picture
from .network import GPEN, unwrap
from .options import DETECTORS, RestoreOptions
from .pictures.picture import FloatImage, Picture
from .progress import Progress, silent
from .weights.catalog import Entry
from .weights.folders import Folders, models_dirs
from .weights.options import DownloadOptions
from .weights.store import Store

log = logging.getLogger(__name__)

DEFAULT_MODEL = "gpen-bfr-2048"
DEFAULT_DETECTOR = DETECTORS[0]
PARSER = "parsenet"
DETECT_AT_ONCE = 4  # pictures: a batch of video frames as a whole would not fit into memory


@dataclass(frozen=True, eq=False)
class RestoreResult:
    """A restored picture and how it came about."""

    image: Any
    """Same kind, dtype, size and alpha as the input, or as the background where there was one (for a path: an array)."""
    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each of its pixels is restored."""
    faces: tuple[Face, ...]
    """Every face found, numbered by its place."""
    smallest_face: float
    """Side in pixels of about the smallest face that could be found at this detection size."""
    largest_face: float
    """The same of the largest."""
    seconds: dict[str, float]
    """Wall time by stage: detect, align, network, mask, blend; of all pictures that were restored together."""
    picture: Picture
    """`image` before it was turned into the input's kind."""
    crops: tuple[FloatImage, ...] = ()
    """Each restored face as the network gave it, [S, S, 3] RGB in [0, 1], if they were to be kept."""
    notes: tuple[str, ...] = ()
    """What else is to be said, such as boxes in which no face was found."""

    @property
    def changed(self) -> bool:
        return bool(self.mask.any())


@dataclass(frozen=True, eq=False)
class _Job:
    """One face to restore."""

    repair: Repair
    number: int
    alignment: Alignment


@dataclass
class _Stopwatch:
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("detect", "align", "network", "mask", "blend"), 0.0)
    )

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


@dataclass
class _Work:
    """What the faces of one call have in common."""

    parser: masks.Parser | None
    watch: _Stopwatch
    progress: Progress
    keep_crops: bool
    done: int = 0
    total: int = 0
    crops: dict[Repair, list[FloatImage]] = field(default_factory=dict)

    def tell(self) -> None:
        self.progress(self.done, self.total, "Restoring faces")


class FaceRestorer:
    """A GPEN network, a detector and perhaps a face parser on one device. Make it with `load`."""

    def __init__(
        self,
        network: GPEN,
        detector: Detector,
        device: torch.device,
        load_parser: Callable[[Progress], masks.Parser] | None = None,
        max_memory: int | None = None,
        load_exact: Callable[[], GPEN] | None = None,
        weights_on: torch.device | None = None,
    ) -> None:
        """`load_parser` is called when a mask first needs it; it raises `MissingWeights` where ParseNet's file is not
        there and cannot be fetched. `load_exact` gives the network in float32, for faces whose output in half precision is
        not finite; without it they are left alone. `weights_on` is where the weights wait for a host that moves them, see
        `modules`; without it they go to `device` at once."""
        self.network = network.to(weights_on or device)
        self.detector = detector
        self.device = device
        self.max_memory = max_memory
        self._load_parser = load_parser or _no_parser
        self._load_exact = load_exact
        self._exact: GPEN | None = None
        self._parser: masks.Parser | None = None
        self._has_no_parser = False
        self._feather = masks.feather()

    @classmethod
    def load(
        cls,
        model: str | PathLike[str] = DEFAULT_MODEL,
        detector: str | PathLike[str] = DEFAULT_DETECTOR,
        models_dir: Folders | None = None,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        progress: Progress | None = None,
        max_memory: int | None = None,
        downloads: DownloadOptions | None = None,
        detection_dir: Folders | None = None,
        weights_on: torch.device | None = None,
    ) -> FaceRestorer:
        """Loads the weights: `model` and `detector` are names looked up in the models folder, or files' paths.

        `models_dir` is one folder or several, and defaults to `$GPEN_MODELS_DIR`, else the user's cache directory. A file
        of the catalog that is in none of them is fetched into the first, unless `downloads` (default: the environment's)
        says that it may not. The detector and the face parser have folders of their own where `detection_dir` says so.
        `weights_on` leaves the weights on that device, for a host that moves them itself (see `modules`). `max_memory` is
        in bytes and bounds the activations. `progress(done, total, text)` counts the bytes of a download (total 0: not
        known yet) and stops the work by raising `Interrupted`.
        Raises `MissingWeights` (a `WeightsError`) saying which file belongs where, `WeightsError` for a file that is
        refused, `DeviceError` for a device or precision that is not there.
        """
        chosen = pick_device(device)
        precision = pick_dtype(dtype, chosen)
        store = Store(models_dirs(models_dir), downloads)
        aside_store = store if detection_dir is None else Store(models_dirs(detection_dir), downloads)
        tell = progress or silent
        network = store.load(str(model), partial(_network, precision), tell)
        aside = _aside(precision, chosen)
        place = weights_on or chosen
        finder = aside_store.load(str(detector), partial(_detector, place, aside), tell)
        tell(1, 1, "Loaded")
        load_parser = partial(aside_store.load, PARSER, partial(_face_parser, place, aside))
        load_exact = partial(store.load, str(model), partial(_network, torch.float32))
        return cls(network, finder, chosen, load_parser, max_memory, load_exact, weights_on)

    @property
    def dtype(self) -> torch.dtype:
        """What the network's convolutions compute in."""
        return self.network.dtype

    def modules(self) -> tuple[torch.nn.Module, ...]:
        """All networks that are loaded. They compute where their weights are, so a host may move them between calls;
        `restore` needs them on `device`."""
        parser = None if self._parser is None else self._parser.network
        return tuple(m for m in (self.network, self.detector.network, parser, self._exact) if m is not None)

    def release_memory(self) -> None:
        """Gives back what is kept between faces so that the next one is faster (on the CPU, 0.3 to 0.8 GB at 2048)."""
        for network in filter(None, (self.network, self._exact)):
            network.release_memory()

    def record(self) -> None:
        """For many faces on a CUDA or ROCm device: compiles the network (torch.compile) and records it as CUDA graphs, see
        `GPEN.record`. It warns of what does not work; elsewhere it does nothing but that (measured: no faster on a CPU)."""
        if self.device.type != "cuda":
            log.warning("Compiling and recording is for CUDA and ROCm; on %s the network runs as it is.", self.device.type)
        elif (left_out := self.network.record()) is not None:
            log.warning("%s", left_out)

    def prepare(self, options: RestoreOptions, progress: Progress | None = None) -> None:
        """Loads what restoring with these options needs beside the network and the detector: the face parser, or nothing.

        Raises `MissingWeights` for a parse mask whose weights are not there and cannot be fetched."""
        self._parser_for(options, progress or silent)

    def restore(
        self,
        image: object,
        options: RestoreOptions | None = None,
        original: object | None = None,
        background: object | None = None,
        *,
        limit: NDArray[np.floating] | None = None,
        boxes: Sequence[Box] | None = None,
        progress: Progress | None = None,
    ) -> RestoreResult:
        """Restores the faces of one picture; what goes with it is described at `Frame`. See `restore_all`."""
        return self.restore_all([Frame(image, original, background, limit, boxes)], options, progress=progress)[0]

    def restore_all(
        self,
        frames: Sequence[Frame],
        options: RestoreOptions | None = None,
        *,
        progress: Progress | None = None,
        keep_crops: bool = False,
    ) -> list[RestoreResult]:
        """Restores the faces of several pictures, in batches across them. Inputs are not changed.

        `progress(done, total, text)` counts faces (total 0: not known yet) and is also called between the steps of one
        face; it stops the work by raising `Interrupted`.
        Raises `InputError` for what is no picture, `MissingWeights` for a parse mask without ParseNet's file,
        `OutOfMemory` if not even one face fits the device.
        """
        options = options or RestoreOptions()
        tell = progress or silent
        repairs = [Repair(frame, options) for frame in frames]
        parser = self._parser_for(options, tell)
        work = _Work(parser, _Stopwatch(), tell, keep_crops)
        with work.watch.stage("detect"):
            searched = [(repair.picture, repair.boxes) for repair in repairs]
            pulse = partial(tell, 0, 0, "Finding faces")
            for repair, faces in zip(repairs, _find(self.detector, searched, options, pulse)):
                repair.take(faces)
        self._restore_faces(repairs, work)
        return [self._result(repair, work) for repair in repairs]

    def detect(self, images: Sequence[object], options: RestoreOptions | None = None) -> list[list[Face]]:
        """The faces of each picture in the options' order, none restored; `reason` says which no head can be.

        Raises `InputError` for what is no picture, `OutOfMemory` where not even one picture fits the device."""
        return detect_faces(self.detector, images, options)

    def _restore_faces(self, repairs: Sequence[Repair], work: _Work) -> None:
        jobs = [
            _Job(repair, number, alignment)
            for repair in repairs
            for number, alignment in repair.alignments(self.network.size)
        ]
        work.total = len(jobs)
        work.tell()

        def run(chunk: Sequence[_Job]) -> tuple[list[FloatImage], NDArray[np.float32]]:
            with work.watch.stage("align"):
                crops = [job.repair.crop(job.alignment) for job in chunk]
            with work.watch.stage("network"):
                return crops, self._run(crops, self.network, work.tell)

        for chunk, (crops, restored) in halving(jobs, self._plan() if jobs else 1, run):
            for job, crop, output in zip(chunk, crops, restored):
                self._put_back(job, crop, output, work)
                work.done += 1
                work.tell()

    def _plan(self) -> int:
        """How many faces to run at once; the network is told how large its features may get."""
        chosen = plan(self.network.config, self.dtype, self.device, self.max_memory)
        self.network.strip_bytes = chosen.strip_bytes
        return chosen.batch

    def _run(self, crops: Sequence[FloatImage], network: GPEN, pulse: Callable[[], None]) -> NDArray[np.float32]:
        """[B] crops of [S, S, 3] RGB in [0, 1] -> [B, S, S, 3] in [0, 1]; all of a crop is NaN where any of it is not
        finite."""
        x = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)  # BHWC -> BCHW
        y = in_strips_if_need_be(network, x.mul(2).sub_(1), pulse)
        y[~y.isfinite().flatten(1).all(1)] = torch.nan
        y = y.mul_(0.5).add_(0.5).clamp_(0, 1)
        return np.asarray(y.permute(0, 2, 3, 1).contiguous().cpu().numpy())  # BCHW -> BHWC

    def _redo(self, crop: FloatImage, work: _Work) -> FloatImage | None:
        """A crop's result in float32; None where there is no network in float32, or where it is not finite either."""
        if self._load_exact is None or self.dtype == torch.float32:
            return None
        if self._exact is None:
            self._exact = self._load_exact().to(self.device)
        self._exact.strip_bytes = self.network.strip_bytes
        with work.watch.stage("network"):
            (restored,) = self._run([crop], self._exact, work.tell)
        return restored if np.isfinite(restored).all() else None

    def _put_back(self, job: _Job, crop: FloatImage, output: FloatImage, work: _Work) -> None:
        repair, note = job.repair, None
        if not np.isfinite(output[0, 0, 0]):
            redone = self._redo(crop, work)
            if redone is None:
                repair.leave(job.number, f"the network's output is not finite in {_dtype_name(self.dtype)}")
                return
            output, note = redone, f"redone in float32: not finite in {_dtype_name(self.dtype)}"
        with work.watch.stage("mask"):
            mask = self._feather if work.parser is None else work.parser.mask(output)
        with work.watch.stage("blend"):
            if repair.options.color == "match":
                output = match_colour(output, crop, mask)
            repair.put_back(job.number, soften_small(output, repair.faces[job.number]), mask, job.alignment, note)
        if work.keep_crops:
            work.crops.setdefault(repair, []).append(output)

    def _result(self, repair: Repair, work: _Work) -> RestoreResult:
        picture, mask = repair.canvas.result, repair.canvas.mask
        smallest, largest = self.detector.sizes(repair.picture, repair.options.detect_size)
        crops = tuple(work.crops.get(repair, ()))
        return RestoreResult(
            picture.native(),
            mask,
            tuple(repair.faces),
            smallest,
            largest,
            work.watch.seconds,
            picture,
            crops,
            tuple(repair.notes),
        )

    def _parser_for(self, options: RestoreOptions, progress: Progress) -> masks.Parser | None:
        if options.mask == "feather" or (options.mask == "auto" and self.device.type == "cpu"):
            return None
        if self._parser is None and not (self._has_no_parser and options.mask == "auto"):
            try:
                self._parser = self._load_parser(progress)
            except MissingWeights as error:
                if options.mask == "parse":
                    raise
                self._has_no_parser = True  # for every picture that follows: a download is not tried again and again
                log.warning("Masks are feathered, not parsed: %s", error)
        return self._parser


def load_detector(
    detector: str | PathLike[str] = DEFAULT_DETECTOR,
    models_dir: Folders | None = None,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
    downloads: DownloadOptions | None = None,
) -> Detector:
    """A detector without a network, for `detect_faces`; see `FaceRestorer.load`."""
    chosen = pick_device(device)
    build = partial(_detector, chosen, _aside(pick_dtype(dtype, chosen), chosen))
    return Store(models_dirs(models_dir), downloads).load(str(detector), build, progress or silent)


def detect_faces(detector: Detector, images: Sequence[object], options: RestoreOptions | None = None) -> list[list[Face]]:
    """See `FaceRestorer.detect`."""
    options = options or RestoreOptions()
    found = _find(detector, [(open_picture(image), None) for image in images], options, lambda: None)
    return [heads(in_order(faces, options.order)) for faces in found]


def _find(
    detector: Detector,
    searched: Sequence[tuple[Picture, Sequence[Box] | None]],
    options: RestoreOptions,
    pulse: Callable[[], None],
) -> Iterator[list[Face]]:
    def run(some: Sequence[tuple[Picture, Sequence[Box] | None]]) -> list[list[Face]]:
        return detector.detect([one for one, _ in some], options, [boxes for _, boxes in some], pulse)

    for _, found in halving(searched, DETECT_AT_ONCE, run, "picture"):
        yield from found


def in_strips_if_need_be(network: GPEN, x: torch.Tensor, pulse: Callable[[], None]) -> torch.Tensor:
    """The network's output; where one sample's features do not fit the device's memory, they are computed in strips from
    then on."""
    forward: Callable[..., torch.Tensor] = network
    try:
        return forward(x, pulse)
    except (RuntimeError, MemoryError) as error:
        if len(x) > 1 or network.strip_bytes is not None or not is_out_of_memory(error):
            raise
    log.warning("Out of memory with one face; going on in strips.")
    network.strip_bytes = CACHE_STRIP
    return forward(x, pulse)


def _no_parser(progress: Progress) -> masks.Parser:
    raise MissingWeights("No face parser was given, so the mask cannot be parsed.")


def _network(dtype: torch.dtype, content: object, entry: Entry | None) -> GPEN:
    return GPEN.from_state_dict(content, dtype, entry.size if entry else None)


def _detector(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Detector:
    return Detector.from_state_dict(unwrap(content), device, dtype)


def _face_parser(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> masks.Parser:
    return masks.Parser.from_state_dict(unwrap(content), device, dtype)


def _aside(precision: torch.dtype, device: torch.device) -> torch.dtype:
    """What detector and face parser compute in: they were measured in bfloat16 on CPUs, elsewhere it is float32."""
    return precision if precision == torch.bfloat16 and device.type == "cpu" else torch.float32


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

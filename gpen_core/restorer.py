"""The one place that ties the rooms together: picture -> faces -> crops -> network -> picture."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import files
from .devices import CACHE_STRIP, halving, is_out_of_memory, pick_device, pick_dtype, plan
from .errors import MissingWeights
from .faces import mask as masks
from .faces.align import Alignment, align, extract
from .faces.blend import Canvas, match_colour, soften_small
from .faces.detect import Detector, smallest_face
from .faces.face import Face
from .faces.select import choose, in_order
from .images import FloatImage, Picture, as_picture
from .network import GPEN, unwrap
from .options import RestoreOptions
from .weights.catalog import Entry
from .weights.folders import Folders, models_dirs
from .weights.options import DownloadOptions, Progress, silent
from .weights.store import Store

log = logging.getLogger(__name__)

DEFAULT_MODEL = "gpen-bfr-2048"
DEFAULT_DETECTOR = "retinaface_resnet50"
PARSER = "parsenet"


@dataclass(frozen=True, eq=False)
class RestoreResult:
    """A restored picture and how it came about."""

    image: Any
    """Same kind, dtype, size and alpha as the input (for a path: an array)."""
    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each pixel is restored."""
    faces: tuple[Face, ...]
    """Every face found, numbered by its place."""
    smallest_face: float
    """Side in pixels of the smallest face that could be found at this detection size."""
    seconds: dict[str, float]
    """Wall time by stage: detect, align, network, mask, blend."""
    picture: Picture
    """`image` before it was turned into the input's kind."""

    @property
    def changed(self) -> bool:
        return bool(self.mask.any())


@dataclass(frozen=True, eq=False)
class _Job:
    number: int
    face: Face
    alignment: Alignment
    crop: FloatImage


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
    ) -> None:
        """`load_parser` is called when a mask first needs it; it raises `MissingWeights` where ParseNet's file is not
        there and cannot be fetched. `load_exact` gives the network in float32, for faces whose output in half precision is
        not finite; without it they are left alone."""
        self.network = network.to(device)
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
    ) -> FaceRestorer:
        """Loads the weights: `model` and `detector` are names looked up in the models folder, or files' paths.

        `models_dir` is one folder or several, and defaults to `$GPEN_MODELS_DIR`, else the user's cache directory. A file
        of the catalog that is in none of them is fetched into the first, unless `downloads` (default: the environment's)
        says that it may not. `max_memory` is in bytes and bounds the activations. `progress(done, total, text)` counts
        the bytes of a download (total 0: not known yet) and stops the work by raising `Interrupted`.
        Raises `MissingWeights` (a `WeightsError`) saying which file belongs where, `WeightsError` for a file that is
        refused, `DeviceError` for a device or precision that is not there.
        """
        chosen = pick_device(device)
        precision = pick_dtype(dtype, chosen)
        store = Store(models_dirs(models_dir), downloads)
        tell = progress or silent
        network = store.load(str(model), partial(_network, precision), tell)
        # The detector and the face parser were measured in bfloat16 on CPUs; elsewhere they compute in float32.
        aside = precision if precision == torch.bfloat16 and chosen.type == "cpu" else torch.float32
        finder = store.load(str(detector), partial(_detector, chosen, aside), tell)
        tell(1, 1, "Loaded")
        load_parser = partial(store.load, PARSER, partial(_face_parser, chosen, aside))
        load_exact = partial(store.load, str(model), partial(_network, torch.float32))
        return cls(network, finder, chosen, load_parser, max_memory, load_exact)

    @property
    def dtype(self) -> torch.dtype:
        """What the network's convolutions compute in."""
        return self.network.dtype

    def release_memory(self) -> None:
        """Gives back what is kept between faces so that the next one is faster (on the CPU, 0.3 to 0.6 GB at 2048)."""
        for network in filter(None, (self.network, self._exact)):
            network.release_memory()

    def prepare(self, options: RestoreOptions, progress: Progress | None = None) -> None:
        """Loads what restoring with these options needs beside the network and the detector: the face parser, or nothing.

        Raises `MissingWeights` for a parse mask whose weights are not there and cannot be fetched."""
        self._parser_for(options, progress or silent)

    def restore(
        self, image: object, options: RestoreOptions | None = None, *, progress: Progress | None = None
    ) -> RestoreResult:
        """Restores the faces of one picture: a path, a PIL image or an array (see `images.as_picture`).

        The input is not changed. `progress(done, total, text)` counts faces; it stops the work by raising `Interrupted`.
        Raises `InputError` for what is no picture, `MissingWeights` for a parse mask without ParseNet's file,
        `OutOfMemory` if not even one face fits the device.
        """
        options = options or RestoreOptions()
        is_path = isinstance(image, (str, PathLike))
        picture = files.read(Path(image)).picture if is_path else as_picture(image)  # type: ignore[arg-type]
        watch = _Stopwatch()
        parser = self._parser_for(options, progress or silent)
        with watch.stage("detect"):
            found = self.detector.detect([picture], options.confidence, options.detect_size)[0]
        size = (picture.width, picture.height)
        faces = choose(in_order(found, options.order), size, options.faces, options.min_face, options.max_faces)
        canvas = Canvas(picture)
        if options.strength > 0:
            faces = self._restore_faces(canvas, faces, options, parser, watch, progress or silent)
        else:
            faces = [replace(face, reason=face.reason or "the strength is 0") for face in faces]
        smallest = smallest_face(picture, options.detect_size)
        result = canvas.result
        return RestoreResult(result.native(), canvas.mask, tuple(faces), smallest, watch.seconds, result)

    def _restore_faces(
        self,
        canvas: Canvas,
        faces: list[Face],
        options: RestoreOptions,
        parser: masks.Parser | None,
        watch: _Stopwatch,
        progress: Progress,
    ) -> list[Face]:
        faces = list(faces)
        aligned = [(n, self._alignment(face, canvas.original, options)) for n, face in enumerate(faces)]
        faces = [replace(face, reason=why) if isinstance(why, str) else face for face, (_, why) in zip(faces, aligned)]
        todo = [(n, alignment) for n, alignment in aligned if isinstance(alignment, Alignment)]
        batch = self._plan() if todo else 1
        done = 0
        progress(done, len(todo), "Restoring faces")

        def run(chunk: Sequence[tuple[int, Alignment]]) -> tuple[list[_Job], NDArray[np.float32]]:
            with watch.stage("align"):
                jobs = [_Job(n, faces[n], alignment, extract(canvas.original, alignment)) for n, alignment in chunk]
            with watch.stage("network"):
                return jobs, self._run([job.crop for job in jobs])

        for chunk, (jobs, restored) in halving(todo, batch, run):
            for job, crop in zip(jobs, restored):
                faces[job.number] = self._put_back(canvas, job, crop, options, parser, watch)
            done += len(chunk)
            progress(done, len(todo), "Restoring faces")
        return faces

    def _alignment(self, face: Face, picture: Picture, options: RestoreOptions) -> Alignment | str:
        if face.reason is not None:
            return face.reason
        alignment = align(face.landmarks, self.network.size, options.template)
        if isinstance(alignment, Alignment) and alignment.region(picture.width, picture.height).empty:
            return "it lies outside the picture"
        return alignment

    def _plan(self) -> int:
        """How many faces to run at once; the network is told how large its features may get."""
        chosen = plan(self.network.config, self.dtype, self.device, self.max_memory)
        self.network.strip_bytes = chosen.strip_bytes
        return chosen.batch

    def _run(self, crops: list[FloatImage], network: GPEN | None = None) -> NDArray[np.float32]:
        """[B] crops of [S, S, 3] RGB in [0, 1] -> [B, S, S, 3] in [0, 1]; all of a crop is NaN where any of it is not
        finite."""
        x = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)  # BHWC -> BCHW
        y = in_strips_if_need_be(network or self.network, x.mul(2).sub_(1))
        y[~y.isfinite().flatten(1).all(1)] = torch.nan
        y = y.mul_(0.5).add_(0.5).clamp_(0, 1)
        return np.asarray(y.permute(0, 2, 3, 1).contiguous().cpu().numpy())  # BCHW -> BHWC

    def _redo(self, crop: FloatImage) -> FloatImage | None:
        """A crop's result in float32; None where there is no network in float32, or where it is not finite either."""
        if self._load_exact is None or self.dtype == torch.float32:
            return None
        if self._exact is None:
            self._exact = self._load_exact().to(self.device)
        self._exact.strip_bytes = self.network.strip_bytes
        (restored,) = self._run([crop], self._exact)
        return restored if np.isfinite(restored).all() else None

    def _put_back(
        self,
        canvas: Canvas,
        job: _Job,
        restored: FloatImage,
        options: RestoreOptions,
        parser: masks.Parser | None,
        watch: _Stopwatch,
    ) -> Face:
        note = None
        if not np.isfinite(restored[0, 0, 0]):
            note = f"redone in float32: not finite in {_dtype_name(self.dtype)}"
            with watch.stage("network"):
                redone = self._redo(job.crop)
            if redone is None:
                return replace(job.face, reason=f"the network's output is not finite in {_dtype_name(self.dtype)}")
            restored = redone
        with watch.stage("mask"):
            mask = self._feather if parser is None else parser.mask(restored)
        with watch.stage("blend"):
            if options.color == "match":
                restored = match_colour(restored, job.crop, mask)
            canvas.paste(soften_small(restored, job.face), mask, job.alignment, options.strength)
        return replace(job.face, restored=True, note=note)

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


def in_strips_if_need_be(network: GPEN, x: torch.Tensor) -> torch.Tensor:
    """The network's output; where one sample's features do not fit the device's memory, they are computed in strips from
    then on."""
    forward: Callable[[torch.Tensor], torch.Tensor] = network
    try:
        return forward(x)
    except (RuntimeError, MemoryError) as error:
        if len(x) > 1 or network.strip_bytes is not None or not is_out_of_memory(error):
            raise
    log.warning("Out of memory with one face; going on in strips.")
    network.strip_bytes = CACHE_STRIP
    return forward(x)


def _no_parser(progress: Progress) -> masks.Parser:
    raise MissingWeights("No face parser was given, so the mask cannot be parsed.")


def _network(dtype: torch.dtype, content: object, entry: Entry | None) -> GPEN:
    return GPEN.from_state_dict(content, dtype, entry.size if entry else None)


def _detector(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Detector:
    return Detector.from_state_dict(unwrap(content), device, dtype)


def _face_parser(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> masks.Parser:
    return masks.Parser.from_state_dict(unwrap(content), device, dtype)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

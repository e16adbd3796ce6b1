"""Which networks are loaded, where their weights are, and what was learned of them while they ran."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike

import torch

from .devices import SMALLER_MODEL, Plan, Process, pick_device, pick_dtype, plan
from .errors import MissingWeights, WeightsError, is_out_of_memory, memory_for, name_offenders
from .faces.detect import Detector
from .faces.mask import Parser
from .network import GPEN, checked, unwrap
from .network.memory import CACHE_STRIP, face_bytes
from .options import DETECTORS, RestoreOptions
from .progress import Progress, silent
from .weights.catalog import Entry
from .weights.downloads import DownloadOptions
from .weights.folders import Folders, models_dirs
from .weights.missing import Wanted, fetch_missing
from .weights.store import Store

log = logging.getLogger(__name__)

DEFAULT_MODEL = "gpen-bfr-2048"
DEFAULT_DETECTOR = DETECTORS[0]
PARSER = "parsenet"


class LoadedNetwork:
    """One GPEN network on its device, its twin in float32 where a face needs it, and whether it runs in strips only."""

    def __init__(self, network: GPEN, device: torch.device, load_exact: Callable[[], GPEN] | None = None) -> None:
        """`load_exact` gives the network in float32, for faces whose output in half precision is not finite."""
        self.network = network
        self.device = device
        self._load_exact = load_exact
        self._exact: LoadedNetwork | None = None
        self._needs_strips = False

    def plan(self, max_memory: int | None) -> Plan:
        """See `devices.plan`; one face in strips where one was too many before."""
        chosen = plan(self.network.config, self.network.dtype, self.device, max_memory)
        return Plan(1, CACHE_STRIP) if self._needs_strips else chosen

    def run(self, x: torch.Tensor, strip_bytes: int | None, pulse: Callable[[], None]) -> torch.Tensor:
        """The network's output. Where one sample's features do not fit the device's memory, they are computed in strips
        from then on. Raises torch's own error where that does not fit either; see `devices.halving`."""
        strip_bytes = CACHE_STRIP if self._needs_strips else strip_bytes
        forward: Callable[..., torch.Tensor] = self.network
        try:
            return forward(x, pulse, strip_bytes)
        except Exception as error:
            if len(x) > 1 or strip_bytes is not None or not is_out_of_memory(error):
                raise
        log.warning("Out of memory with one face; going on in strips.")
        self._needs_strips = True
        return forward(x, pulse, CACHE_STRIP)

    def exact(self) -> LoadedNetwork | None:
        """Its twin in float32, loaded when first asked for; None where there is none or it is in float32 itself."""
        if self._exact is None and self._load_exact is not None and self.network.dtype != torch.float32:
            self._exact = LoadedNetwork(self._load_exact().to(self.device), self.device)
        return self._exact

    def networks(self) -> tuple[GPEN, ...]:
        return (self.network,) if self._exact is None else (self.network, *self._exact.networks())


class Models:
    """The networks of one restorer: one GPEN or several, a detector and perhaps a face parser, on one device."""

    def __init__(
        self,
        networks: Sequence[LoadedNetwork],
        detector: Detector,
        device: torch.device,
        load_parser: Callable[[Progress], Parser] | None = None,
        weights_on: torch.device | None = None,
    ) -> None:
        """`load_parser` is called when a mask first needs it; it raises `MissingWeights` where ParseNet's file is not
        there and cannot be fetched. `weights_on` is where the weights wait for a host that moves them, see
        `FaceRestorer.modules`; without it they go to `device` at once."""
        Process.compute()
        self.networks = tuple(networks)
        self.detector = detector
        self.device = device
        self._load_parser = load_parser or _no_parser
        self._parser: Parser | None = None
        self._has_no_parser = False
        for one in self.networks:
            one.network.to(weights_on or device)

    @classmethod
    @memory_for("the networks", SMALLER_MODEL)
    def load(
        cls,
        models: Sequence[str | PathLike[str]],
        detector: str | PathLike[str],
        models_dir: Folders | None,
        device: str | torch.device,
        dtype: str,
        progress: Progress | None,
        downloads: DownloadOptions | None,
        detection_dir: Folders | None,
        weights_on: torch.device | None,
    ) -> Models:
        """See `FaceRestorer.load`; every one of `models` is loaded."""
        Process.compute()
        chosen = pick_device(device)
        precision = pick_dtype(dtype, chosen)
        store = Store(models_dirs(models_dir), downloads)
        aside_store = store if detection_dir is None else Store(models_dirs(detection_dir), downloads)
        tell = progress or silent
        aside = _aside(precision, chosen)
        place = weights_on or chosen
        build, build_detector = partial(_network, precision), partial(_detector, place, aside)
        wanted = [Wanted(store, str(model), build) for model in models]
        fetch_missing([*wanted, Wanted(aside_store, str(detector), build_detector)], tell)
        networks = []
        for model in map(str, models):
            load_exact = partial(store.load, model, partial(_network, torch.float32))
            networks.append(LoadedNetwork(store.load(model, build, tell), chosen, load_exact))
        finder = aside_store.load(str(detector), build_detector, tell)
        tell(1, 1, "Loaded")
        load_parser = partial(aside_store.load, PARSER, partial(_face_parser, place, aside))
        return cls(networks, finder, chosen, load_parser, weights_on)

    def parser(self, options: RestoreOptions, progress: Progress) -> Parser | None:
        """The face parser where these options need one, loaded when first asked for.

        Raises `MissingWeights` for a parse mask whose weights are not there and cannot be fetched."""
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

    def modules(self) -> tuple[torch.nn.Module, ...]:
        """All that are loaded by now."""
        parser = () if self._parser is None else (self._parser.network,)
        first, *more = (network for one in self.networks for network in one.networks())
        return (first, self.detector.network, *parser, *more)

    def working_bytes(self) -> int:
        """Estimated, beside the weights: one face in one piece, or detection, whichever takes more."""
        faces = (face_bytes(one.network.config, one.network.dtype) for one in self.networks)
        return max(*faces, self.detector.working_bytes)

    def release_memory(self) -> None:
        for one in self.networks:
            for network in one.networks():
                network.release_memory()

    def record(self) -> None:
        """See `FaceRestorer.record`."""
        if self.device.type != "cuda":
            log.warning("Compiling and recording is for CUDA and ROCm; on %s the network runs as it is.", self.device.type)
            return
        for one in self.networks:
            if (left_out := one.network.record()) is not None:
                log.warning("%s", left_out)


@memory_for("the face detector", "take retinaface_mobile0.25")
def load_detector(
    detector: str | PathLike[str] = DEFAULT_DETECTOR,
    models_dir: Folders | None = None,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
    downloads: DownloadOptions | None = None,
) -> Detector:
    """A detector without a network, for `restorer.detect_faces`; see `FaceRestorer.load`."""
    Process.compute()
    chosen = pick_device(device)
    build = partial(_detector, chosen, _aside(pick_dtype(dtype, chosen), chosen))
    return Store(models_dirs(models_dir), downloads).load(str(detector), build, progress or silent)


def check_structure(content: object, entry: Entry | None) -> None:
    """Refuses, as `WeightsError`, a file that is not what its name says, as far as tensors, names and shapes can tell."""
    if entry is not None and entry.size is not None:
        checked(content, entry.size)
        return
    broken = [key for key, tensor in unwrap(content).items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise WeightsError(f"These tensors hold values that are not finite: {name_offenders(broken)}.")


def trust_weights(name: str, models_dir: Folders | None = None) -> str:
    """For a file that the user has replaced: remembers it anew, and gives its path. See `Store.trust`."""
    path, _ = Store(models_dirs(models_dir)).trust(name, check_structure)
    return str(path)


def _no_parser(progress: Progress) -> Parser:
    raise MissingWeights("No face parser was given, so the mask cannot be parsed.")


def _network(dtype: torch.dtype, content: object, entry: Entry | None) -> GPEN:
    return GPEN.from_state_dict(content, dtype, entry.size if entry else None)


def _detector(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Detector:
    return Detector.from_state_dict(unwrap(content), device, dtype)


def _face_parser(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Parser:
    return Parser.from_state_dict(unwrap(content), device, dtype)


def _aside(precision: torch.dtype, device: torch.device) -> torch.dtype:
    """What detector and face parser compute in: they were measured in bfloat16 on CPUs, elsewhere it is float32."""
    return precision if precision == torch.bfloat16 and device.type == "cpu" else torch.float32

"""Which networks are loaded, where their weights are, and what was learned of them while they ran."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike

import torch

from ..errors import MissingWeights, OutOfMemory, WeightsError, memory_for, name_offenders
from ..faces.detection.retinaface import Detector
from ..faces.mask import Parser
from ..faces.postprocess import Masking
from ..network import GPEN, RELEASED, checked, unwrap
from ..network.memory_estimate import face_bytes
from ..optional_packages import require
from ..options import DETECTORS, OCCLUDERS, RestoreOptions
from ..progress import Progress, ProgressEvent, no_progress
from ..weights.catalog import CATALOG, Entry
from ..weights.download_options import DownloadOptions
from ..weights.folders import Folders, models_dirs
from ..weights.prefetch import Wanted, fetch_missing
from ..weights.store import Store
from . import rrdb
from .device_check import verified_device
from .devices import SMALLER_MODEL, Process, pick_device, pick_dtype
from .gpen_runner import BySize, LoadedNetwork, sizes_of
from .lazy import Lazy
from .upscale import LANCZOS, Upscaler

log = logging.getLogger(__name__)

DEFAULT_MODEL = "gpen-bfr-2048"
DEFAULT_DETECTOR = DETECTORS[0]
PARSER = "parsenet"
CHECKED_DEVICES = "checked-devices.json"


class Models:
    """The networks of one restorer: one GPEN or several, a detector and perhaps a face parser, on one device."""

    def __init__(
        self,
        networks: Sequence[LoadedNetwork] | BySize,
        detector: Detector,
        device: torch.device,
        load_parser: Callable[[Progress], Parser] | None = None,
        weights_on: torch.device | None = None,
        load_upscaler: Callable[[str, Progress], Upscaler] | None = None,
    ) -> None:
        """Of several `networks` that are not by size the first restores. `load_parser` is called when a mask first needs
        it; it raises `MissingWeights` where ParseNet's file is not there and cannot be fetched. `weights_on` is where the
        weights wait for a host that moves them, see `FaceRestorer.modules`; without it they go to `device` at once.
        `load_upscaler` is given a name or a path."""
        Process.compute()
        self._by_size = networks if isinstance(networks, BySize) else None
        self._networks = () if isinstance(networks, BySize) else tuple(networks)
        self.detector = detector
        self.device = device
        self._parser = Lazy(load_parser or _no_parser)
        self._has_no_parser = False
        self._load_upscaler = load_upscaler or _no_upscaler
        self._upscalers: dict[str, Lazy[Upscaler]] = {}
        for one in self.networks:
            one.network.to(weights_on or device)

    @property
    def networks(self) -> tuple[LoadedNetwork, ...]:
        """Those that are loaded by now."""
        return self._networks if self._by_size is None else self._by_size.loaded

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the faces that can be restored, in pixels; one unless each face takes what suits it."""
        return (self._networks[0].network.size,) if self._by_size is None else self._by_size.sizes

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return self._networks[0].network.dtype if self._by_size is None else self._by_size.dtype

    def network_for(self, side: float, progress: Progress) -> LoadedNetwork:
        """That for a face whose square is `side` pixels wide. Raises what `BySize.for_side` does."""
        return self._networks[0] if self._by_size is None else self._by_size.for_side(side, progress)

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
        upscaler: str = LANCZOS,
    ) -> Models:
        """See `FaceRestorer.load`; every one of `models` is loaded, but `auto` alone when a face needs one. `upscaler` is
        fetched with them, loaded when used."""
        Process.compute()
        require("facexlib")  # before anything is fetched
        chosen = _checked_device(device)
        precision = pick_dtype(dtype, chosen)
        store = Store(models_dirs(models_dir), downloads)
        aside_store = store if detection_dir is None else Store(models_dirs(detection_dir), downloads)
        tell = progress or no_progress
        aside = _aside(precision, chosen)
        place = weights_on or chosen
        build, build_detector = partial(_network, precision), partial(_detector, place, aside)
        sizes = sizes_of(str(models[0]))
        wanted = [] if sizes else [Wanted(store, str(model), build) for model in models]
        wanted.append(Wanted(aside_store, str(detector), build_detector))
        if upscaler != LANCZOS:
            rrdb.require_package()
            wanted.append(Wanted(store, upscaler, rrdb.checked))
        fetch_missing(wanted, tell)

        def loaded(model: str, told: Progress) -> LoadedNetwork:
            load_exact = partial(store.load, model, partial(_network, torch.float32))
            return LoadedNetwork(store.load(model, build, told), chosen, load_exact)

        networks: Sequence[LoadedNetwork] | BySize
        if sizes:
            networks = BySize(sizes, precision, partial(_sized, loaded))
        else:
            networks = [loaded(str(model), tell) for model in models]
        finder = aside_store.load(str(detector), build_detector, tell)
        count = 1 + (0 if sizes else len(models))
        tell(ProgressEvent("load", count, count, "model", "Loaded"))
        load_parser = partial(aside_store.load, PARSER, partial(_face_parser, place, aside))
        return cls(networks, finder, chosen, load_parser, weights_on, partial(_upscaler, store, place, chosen, precision))

    def parser(self, options: RestoreOptions, progress: Progress) -> Parser | None:
        """The face parser where these options need one, loaded when first asked for.

        Raises `MissingWeights` for a parse mask whose weights are not there and cannot be fetched."""
        if options.mask_type == "feather" or (options.mask_type == "auto" and self.device.type == "cpu"):
            return None
        if self._has_no_parser and options.mask_type == "auto":
            return self._parser.loaded
        try:
            return self._parser.get(progress)
        except MissingWeights as error:
            if options.mask_type == "parse":
                raise
            self._has_no_parser = True  # for every picture that follows: a download is not tried again and again
            log.warning("Masks are feathered, not parsed: %s", error)
            return None

    def masking(self, options: RestoreOptions, progress: Progress) -> Masking:
        """What masks are made with. Raises `MissingWeights` as `parser` does, and for regions to be kept."""
        finds_regions = any(region != OCCLUDERS for region in options.preserve)
        return Masking(self.parser(options, progress), self._parser.get(progress) if finds_regions else None)

    def upscaler(self, options: RestoreOptions, progress: Progress) -> Upscaler | None:
        """The network that enlarges the picture with these options, loaded when first asked for; None for Lanczos.

        Raises `MissingExtra` where no package builds it, `MissingWeights` and `WeightsError` as `Store.load` does."""
        name = options.upscaler
        if options.upscale == 1 or name == LANCZOS:
            return None
        return self._upscalers.setdefault(name, Lazy(partial(self._load_upscaler, name))).get(progress)

    def modules(self) -> tuple[torch.nn.Module, ...]:
        """All that are loaded by now."""
        parser = () if (parsing := self._parser.loaded) is None else (parsing.network,)
        networks = [network for one in self.networks for network in one.networks()]
        upscalers = [one for lazy in tuple(self._upscalers.values()) if (one := lazy.loaded) is not None]
        enlarging = (network for one in upscalers for network in one.modules())
        return (*networks[:1], self.detector.network, *parser, *networks[1:], *enlarging)

    def move_to(self, device: torch.device) -> None:
        """See `FaceRestorer.move_to`."""
        try:
            self._move_to(device)
            return
        except OutOfMemory:
            if not self.drop():
                raise
        log.warning("There is not enough memory for all networks at once; each is loaded again when a face needs it.")
        self._move_to(device)

    @memory_for("the networks", SMALLER_MODEL)
    def _move_to(self, device: torch.device) -> None:
        try:
            for module in self.modules():
                module.to(device)
        except Exception:
            for module in self.modules():  # half of them would only fill the device
                module.to("cpu")
            raise

    def drop(self) -> bool:
        """See `FaceRestorer.drop`."""
        return self._by_size is not None and self._by_size.drop()

    def when_dropped(self, told: Callable[[Sequence[torch.nn.Module]], None]) -> None:
        """See `FaceRestorer.when_dropped`."""
        if self._by_size is not None:
            self._by_size.when_dropped = told

    def working_bytes(self) -> int:
        """Estimated, beside the weights: one face in one piece, or detection, whichever takes more."""
        configs = [RELEASED[self.sizes[-1]]] if self._by_size else [one.network.config for one in self._networks]
        return max(self.detector.working_bytes, *(face_bytes(config, self.dtype) for config in configs))

    def release_memory(self) -> None:
        for one in self.networks:
            for network in one.networks():
                network.release_memory()

    def record(self) -> None:
        """See `FaceRestorer.record`."""
        if self.device.type != "cuda":
            log.warning("Compiling and recording is for CUDA and ROCm; on %s the network runs as it is.", self.device.type)
            return
        if self._by_size is not None:
            log.warning("Networks chosen by the size of the face run as they are: name one to compile and record it.")
        for one in self._networks:
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
    require("facexlib")
    chosen = _checked_device(device)
    build = partial(_detector, chosen, _aside(pick_dtype(dtype, chosen), chosen))
    return Store(models_dirs(models_dir), downloads).load(str(detector), build, progress or no_progress)


def _checked_device(device: str | torch.device) -> torch.device:
    """The device asked for, or the CPU in place of one that computes wrongly, see `device_check`. Raises `DeviceError`."""
    return verified_device(pick_device(device), lambda: models_dirs()[0] / CHECKED_DEVICES)


def check_structure(content: object, entry: Entry | None) -> None:
    """Refuses, as `WeightsError`, a file that is not what its name says, as far as tensors, names and shapes can tell."""
    if entry is not None and entry.size is not None:
        checked(content, entry.size)
        return
    if entry is not None and entry.scale is not None:
        rrdb.checked(content, entry)
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


def _no_upscaler(name: str, progress: Progress) -> Upscaler:
    raise MissingWeights(f"No models folder was given, so the upscaler {name!r} cannot be loaded.")


def _upscaler(
    store: Store, place: torch.device, device: torch.device, dtype: torch.dtype, name: str, progress: Progress
) -> Upscaler:
    """`place` is where its weights are."""
    rrdb.require_package()  # before anything is fetched

    def build(content: object, entry: Entry | None) -> Upscaler:
        state_dict, layout = rrdb.checked(content, entry)
        load_exact = partial(_upscaler, store, place, device, torch.float32, name, no_progress)
        return Upscaler(rrdb.build(state_dict, layout).to(place), layout, device, dtype, load_exact)

    return store.load(name, build, progress)


def _network(dtype: torch.dtype, content: object, entry: Entry | None) -> GPEN:
    return GPEN.from_state_dict(content, dtype, entry.size if entry else None)


def _sized(loaded: Callable[[str, Progress], LoadedNetwork], size: int, progress: Progress) -> LoadedNetwork:
    """The network of that size, on its device: nobody has moved it there before. Raises as `Store.load` does."""
    with memory_for("the network", SMALLER_MODEL):
        one = loaded(next(entry.name for entry in CATALOG if entry.size == size), progress)
        one.network.to(one.device)
    progress(ProgressEvent("load", 1, 1, "model", "Loaded"))
    return one


def _detector(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Detector:
    return Detector.from_state_dict(unwrap(content), device, dtype)


def _face_parser(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Parser:
    return Parser.from_state_dict(unwrap(content), device, dtype)


def _aside(precision: torch.dtype, device: torch.device) -> torch.dtype:
    """What detector and face parser compute in: they were measured in bfloat16 on CPUs, elsewhere it is float32."""
    return precision if precision == torch.bfloat16 and device.type == "cpu" else torch.float32

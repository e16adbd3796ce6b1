"""Loading and managing the networks of a restorer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import NoReturn

import torch

from ..errors import MissingDependency, MissingWeights, OutOfMemory, oom_context
from ..faces.detection.retinaface import Detector
from ..faces.mask import FaceParser
from ..faces.postprocess import MaskModels
from ..files.path_checks import AnyPath
from ..network import RELEASED
from ..network.memory_estimate import bytes_per_face
from ..options import AUTO, DETECTORS, OCCLUDERS, RestoreOptions
from ..progress import Progress, ProgressEvent, no_progress
from ..weights.catalog import RESTORE
from ..weights.digest import DigestRecord, file_sha256
from ..weights.download_options import DownloadOptions
from ..weights.folders import Folders, Names, find_file, models_dirs, present_sizes, to_names
from ..weights.name_check import DETECTOR, check_name
from ..weights.prefetch import WeightRequest, prefetch
from ..weights.store import Store
from .device_check import verified_device
from .devices import SMALLER_MODEL_HINT, ForkGuard, pick_device, pick_dtype
from .gpen_runner import GPENRunner, SizeSelector, parse_auto_model
from .identity_models import IdentityModels
from .lazy import Lazy
from .needed_weights import needed_networks, parses_mask
from .network_loading import NetworkLoader, validate_checkpoint
from .onnx_providers import requested_provider
from .upscale import LANCZOS, Upscaler

log = logging.getLogger(__name__)

DEFAULT_MODEL = AUTO
DEFAULT_DETECTOR = DETECTORS[0]
DEVICE_CHECKS_FILE = "checked-devices.json"


class ModelSet:
    """The networks of a restorer on one device: GPENs, a detector, and optionally a face parser and upscalers."""

    def __init__(
        self,
        runners: Sequence[GPENRunner] | SizeSelector,
        detector: Detector,
        device: torch.device,
        load_parser: Callable[[Progress], FaceParser] | None = None,
        offload_device: torch.device | None = None,
        load_upscaler: Callable[[str, Progress], Upscaler] | None = None,
        identity: IdentityModels | None = None,
    ) -> None:
        """`runners` is a `SizeSelector`, or a sequence whose first runner restores.

        `load_parser` is called when a mask first needs it. It raises `MissingWeights` if ParseNet's file is missing and
        cannot be downloaded. `offload_device` holds the weights for hosts that move them themselves, see
        `FaceRestorer.modules`; without it they are moved to `device` at once. `load_upscaler` is called with a name or a
        path. `identity` tells people apart."""
        ForkGuard.check()
        self._selector = runners if isinstance(runners, SizeSelector) else None
        self._runners = () if isinstance(runners, SizeSelector) else tuple(runners)
        self.detector = detector
        self.identity = identity or IdentityModels(detector)
        self.device = device
        self._parser = Lazy(load_parser or _missing_parser)
        self._is_parser_missing = False
        self._load_upscaler = load_upscaler or _missing_upscaler
        self._upscalers: dict[str, Lazy[Upscaler]] = {}
        for runner in self.runners:
            runner.network.to(offload_device or device)

    @property
    def runners(self) -> tuple[GPENRunner, ...]:
        """The runners that are currently loaded."""
        return self._runners if self._selector is None else self._selector.loaded_runners

    @property
    def sizes(self) -> tuple[int, ...]:
        """The available network sizes in pixels; more than one only with the model `auto`."""
        return (self._runners[0].network.size,) if self._selector is None else self._selector.sizes

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the networks."""
        return self._runners[0].network.dtype if self._selector is None else self._selector.dtype

    @property
    def operation(self) -> str:
        """What the networks do to a face, see `Entry.operation`. The model `auto` restores."""
        return RESTORE if self._selector is not None else self._runners[0].operation

    @property
    def weights(self) -> tuple[dict[str, str], ...]:
        """See `GPENRunner.weights` of the loaded runners."""
        return tuple(one.weights for one in self.runners)

    def runner_for(self, side: float, progress: Progress) -> GPENRunner:
        """Return the runner for a face whose square is `side` pixels wide. Errors as in `SizeSelector.for_face_size`."""
        return self._runners[0] if self._selector is None else self._selector.for_face_size(side, progress)

    def advise(self, side: float, size: int) -> str | None:
        """See `SizeSelector.advise`."""
        return None if self._selector is None else self._selector.advise(side, size)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A FaceRestorer cannot be pickled or copied, because its networks belong to this process and its device. Call "
            "FaceRestorer.load in each process."
        )

    @classmethod
    @oom_context("the networks", SMALLER_MODEL_HINT)
    def load(
        cls,
        models: Sequence[str | PathLike[str]],
        detector: str | PathLike[str],
        *,
        models_dir: Folders | None = None,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        progress: Progress | None = None,
        downloads: DownloadOptions | None = None,
        detection_dir: Folders | None = None,
        offload_device: str | torch.device | None = None,
        upscaler: str = LANCZOS,
        prefetch_auto: bool = True,
    ) -> ModelSet:
        """Load the networks; see `FaceRestorer.load`.

        All `models` are loaded at once, except `auto`, whose networks are loaded when a face needs them. If no network for
        `auto` is present, the one for 2048 is downloaded, with `prefetch_auto` at once. `upscaler` is downloaded with the
        models and loaded on first use."""
        ForkGuard.check()
        torch_device = _pick_verified_device(device)
        provider = requested_provider(device)
        precision = pick_dtype(dtype, torch_device, provider)
        store = Store(models_dirs(models_dir), downloads, keep_onnx=provider is not None)
        detection_store = store if detection_dir is None else Store(models_dirs(detection_dir), downloads)
        weights_device = torch_device if offload_device is None else pick_device(offload_device)
        loader = NetworkLoader(store, detection_store, torch_device, weights_device, precision, provider)
        notify = progress or no_progress
        names = [str(model) for model in models]
        sizes, present = parse_auto_model(names[0]), present_sizes(store.folders)
        if sizes:
            names = [*needed_networks(names[0], store.folders)] if prefetch_auto else []
        loader.prefetch(names, str(detector), upscaler, notify)
        runners: Sequence[GPENRunner] | SizeSelector
        if sizes:
            runners = SizeSelector(sizes, loader.gpen_dtype, loader.runner_for_size, present)
        else:
            runners = [loader.runner(name, notify) for name in names]
        face_detector = loader.detector(str(detector), notify)
        count = 1 + (0 if sizes else len(models))
        notify(ProgressEvent("load", count, count, "model", "Loaded"))
        identity = IdentityModels.from_store(face_detector, detection_store)
        return cls(runners, face_detector, torch_device, loader.parser, weights_device, loader.upscaler, identity)

    def parser(self, options: RestoreOptions, progress: Progress) -> FaceParser | None:
        """Return the face parser if these options need one. It is loaded on first use.

        For a parse mask, raises `MissingWeights` if the weights are missing and cannot be downloaded, and
        `MissingDependency` without facexlib. The mask `auto` is then feathered."""
        if not parses_mask(options, self.device.type):
            return None
        if self._is_parser_missing and options.mask_type == "auto":
            return self._parser.loaded_value
        try:
            return self._parser.get(progress)
        except (MissingWeights, MissingDependency) as error:
            if options.mask_type == "parse":
                raise
            self._is_parser_missing = True  # do not try the download again for each image
            log.warning("Using feathered masks instead of parsed ones: %s", error)
            return None

    def mask_models(self, options: RestoreOptions, progress: Progress) -> MaskModels:
        """Return the networks for masks. Raises `MissingWeights` like `parser`, and for regions to preserve."""
        needs_regions = any(region != OCCLUDERS for region in options.preserve)
        return MaskModels(self.parser(options, progress), self._parser.get(progress) if needs_regions else None)

    def upscaler(self, options: RestoreOptions, progress: Progress) -> Upscaler | None:
        """Return the upscaling network for these options, or None for Lanczos. It is loaded on first use.

        Raises `MissingDependency` if no package for it is installed, `MissingWeights` and `WeightsError` like
        `Store.load`."""
        name = options.upscaler
        if options.upscale == 1 or name == LANCZOS:
            return None
        return self._upscalers.setdefault(name, Lazy(partial(self._load_upscaler, name))).get(progress)

    def modules(self) -> tuple[torch.nn.Module, ...]:
        """All networks that are currently loaded."""
        parser = () if (face_parser := self._parser.loaded_value) is None else (face_parser.network,)
        networks = [network for one in self.runners for network in one.networks()]
        upscalers = [one for lazy in tuple(self._upscalers.values()) if (one := lazy.loaded_value) is not None]
        upscaling = (network for one in upscalers for network in one.modules())
        return (*networks[:1], self.detector.network, *parser, *networks[1:], *upscaling)

    def move_to(self, device: torch.device) -> None:
        """See `FaceRestorer.move_to`."""
        try:
            self._move_to(device)
            return
        except OutOfMemory:
            if not self.unload():
                raise
        log.warning("Not enough memory for all networks at once; unloading them. Each is loaded again on its next use.")
        self._move_to(device)

    @oom_context("the networks", SMALLER_MODEL_HINT)
    def _move_to(self, device: torch.device) -> None:
        try:
            for module in self.modules():
                module.to(device)
        except Exception:
            for module in self.modules():  # the moved ones would only fill the device
                module.to("cpu")
            raise

    def unload(self) -> bool:
        """See `FaceRestorer.unload`."""
        return self._selector is not None and self._selector.unload()

    def set_unload_callback(self, callback: Callable[[Sequence[torch.nn.Module]], None]) -> None:
        """See `FaceRestorer.set_unload_callback`."""
        if self._selector is not None:
            self._selector.on_unload = callback

    def activation_bytes(self) -> int:
        """Estimate the peak memory in bytes, without the weights.

        It is that of one face without strips or of detection, whichever is larger."""
        configs = [RELEASED[self.sizes[-1]]] if self._selector else [one.network.config for one in self._runners]
        return max(self.detector.activation_bytes, *(bytes_per_face(config, self.dtype) for config in configs))

    def release_memory(self) -> None:
        for one in self.runners:
            for network in one.networks():
                network.release_memory()

    def compile(self) -> None:
        """See `FaceRestorer.compile`."""
        if self.device.type != "cuda":
            log.warning(
                "CUDA graphs and torch.compile require CUDA or ROCm. The network is not compiled on %s.", self.device.type
            )
            return
        if self._selector is not None:
            log.warning("The model auto cannot be compiled. Choose one network instead.")
        for one in self._runners:
            if (failure := one.network.capture()) is not None:
                log.warning("%s", failure)


@oom_context("the face detector", "use retinaface_mobile0.25")
def load_detector(
    detector: str | PathLike[str] = DEFAULT_DETECTOR,
    models_dir: Folders | None = None,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
    downloads: DownloadOptions | None = None,
) -> Detector:
    """Load only a detector, for `face_detection.detect_faces`; see `FaceRestorer.load`."""
    ForkGuard.check()
    torch_device = _pick_verified_device(device)
    store = Store(models_dirs(models_dir), downloads)
    check_name(detector, DETECTOR, store.folders)
    loader = NetworkLoader(store, store, torch_device, torch_device, pick_dtype(dtype, torch_device))
    return loader.detector(str(detector), progress or no_progress)


def _pick_verified_device(device: str | torch.device) -> torch.device:
    """Return the requested device, or the CPU if it computes incorrectly; see `device_check`. Raises `DeviceError`."""
    return verified_device(pick_device(device), lambda: models_dirs()[0] / DEVICE_CHECKS_FILE)


def accept_changed_weights(name: AnyPath, models_dir: Folders | None = None) -> str:
    """Record the digest of a file that the user replaced, and return its path. See `Store.accept_changed`."""
    path, _ = Store(models_dirs(models_dir)).accept_changed(fspath(name), validate_checkpoint)
    return str(path)


def accept_digest(sha256: str, names: Names, models_dir: Folders | None = None) -> list[Path]:
    """Accept changed files with these names if they have this SHA-256 (64 hexadecimal digits of either case), and return
    their paths.

    Names without a file are skipped. Errors as in `Store.accept_changed`."""
    store, sha256 = Store(models_dirs(models_dir)), sha256.lower()
    paths = (find_file(name, store.folders) for name in to_names(names))
    accepted = {path for path in paths if path is not None and file_sha256(path) == sha256}
    return [store.accept_changed(str(path), validate_checkpoint, sha256)[0] for path in sorted(accepted)]


def download_weights(
    names: Names,
    models_dir: Folders | None = None,
    progress: Progress | None = None,
    downloads: DownloadOptions | None = None,
) -> dict[Path, DigestRecord]:
    """Download the missing files with this catalog name or these, and return a `DigestRecord` for each path.

    `progress` counts the bytes of all files together. It stops the download by raising `Interrupted`; partial files are
    kept and resumed. Raises `MissingWeights` if a file cannot be downloaded, and `WeightsError` if it is rejected."""
    store, names = Store(models_dirs(models_dir), downloads), to_names(names)
    prefetch([WeightRequest(store, name, validate_checkpoint) for name in names], progress or no_progress)
    paths = [store.fetch(name, validate_checkpoint) for name in names]
    return {path: store.verify(path) for path in paths}


def _missing_parser(progress: Progress) -> FaceParser:
    raise MissingWeights("Parse masks need a face parser, but none was given.")


def _missing_upscaler(name: str, progress: Progress) -> Upscaler:
    raise MissingWeights(f"The upscaler {name!r} cannot be loaded, because no models folder was given.")

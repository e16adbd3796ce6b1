"""Loading and managing the networks of a restorer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path

import torch

from ..errors import MissingDependency, MissingWeights, OutOfMemory, oom_context
from ..faces.detection.retinaface import Detector
from ..faces.mask import FaceParser
from ..faces.postprocess import MaskModels
from ..files.path_checks import AnyPath
from ..network import GPEN, RELEASED
from ..network.memory_estimate import bytes_per_face
from ..options import AUTO, DETECTORS, OCCLUDERS, RestoreOptions
from ..progress import Progress, ProgressEvent, no_progress
from ..weights.catalog import RESTORE, find_operation
from ..weights.digest import DigestRecord, file_sha256
from ..weights.download_options import DownloadOptions
from ..weights.folders import Folders, Names, find_file, models_dirs, present_sizes, to_names
from ..weights.name_check import DETECTOR, MODEL, UPSCALER, check_name
from ..weights.prefetch import WeightRequest, prefetch
from ..weights.store import Store
from . import rrdb
from .device_check import verified_device
from .devices import SMALLER_MODEL_HINT, ForkGuard, pick_device, pick_dtype
from .gpen_runner import GPENRunner, SizeSelector, parse_auto_model
from .identity_models import IdentityModels
from .lazy import Lazy
from .needed_weights import needed_networks, parses_mask
from .network_loading import (
    build_detector,
    build_network,
    detection_dtype,
    load_parser,
    load_size,
    load_upscaler,
    validate_checkpoint,
)
from .onnx_providers import provider_dtype, requested_provider
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

    @classmethod
    @oom_context("the networks", SMALLER_MODEL_HINT)
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
        offload_device: str | torch.device | None,
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
        notify = progress or no_progress
        weights_device = torch_device if offload_device is None else pick_device(offload_device)
        parser_dtype = detection_dtype(precision, torch_device)
        build_gpen = partial(build_network, precision, torch_device, provider)
        build_face_detector = partial(build_detector, weights_device, parser_dtype)
        sizes = parse_auto_model(models[0])
        present = present_sizes(store.folders)
        names = tuple(map(str, models))
        if sizes:
            names = needed_networks(names[0], store.folders) if prefetch_auto else ()
        for name in names:
            check_name(name, MODEL, store.folders)
        check_name(detector, DETECTOR, detection_store.folders)
        requests = [WeightRequest(store, name, build_gpen) for name in names]
        requests.append(WeightRequest(detection_store, str(detector), build_face_detector))
        if upscaler != LANCZOS:
            rrdb.require_backend()
            check_name(upscaler, UPSCALER, store.folders)
            requests.append(WeightRequest(store, upscaler, rrdb.validate_state_dict))

        def load_runner(model: str, progress: Progress) -> GPENRunner:
            network, origin = store.load_with_origin(model, build_gpen, progress)
            load_fp32 = partial(store.load, model, partial(build_network, torch.float32, torch_device, None))
            has_fp32 = isinstance(network, GPEN) or network.is_converted
            return GPENRunner(network, torch_device, load_fp32 if has_fp32 else None, origin, find_operation(model))

        runners: Sequence[GPENRunner] | SizeSelector
        prefetch(requests, notify)
        if sizes:
            gpen_dtype = precision if provider is None else provider_dtype(provider, torch_device, precision)
            runners = SizeSelector(sizes, gpen_dtype, partial(load_size, load_runner), present)
        else:
            runners = [load_runner(str(model), notify) for model in models]
        face_detector = detection_store.load(str(detector), build_face_detector, notify)
        count = 1 + (0 if sizes else len(models))
        notify(ProgressEvent("load", count, count, "model", "Loaded"))
        return cls(
            runners,
            face_detector,
            torch_device,
            partial(load_parser, detection_store, weights_device, parser_dtype),
            weights_device,
            partial(load_upscaler, store, weights_device, torch_device, precision),
            IdentityModels.from_store(face_detector, detection_store),
        )

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
    build = partial(build_detector, torch_device, detection_dtype(pick_dtype(dtype, torch_device), torch_device))
    store = Store(models_dirs(models_dir), downloads)
    check_name(detector, DETECTOR, store.folders)
    return store.load(str(detector), build, progress or no_progress)


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

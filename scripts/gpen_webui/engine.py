"""Keeps one restorer for all parts of a host. It is loaded on first use and moved to the device while it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from gpen_core import (
    AUTO_MODELS,
    DETECTORS,
    OptionsError,
    RestoreOptions,
    find_file,
    fingerprint,
    list_detectors,
    list_networks,
    missing_weights,
    required_weights,
)

from . import failure_cache, host
from .host_progress import HostProgress, progress_scope

if TYPE_CHECKING:  # imported on first use to keep the host's startup fast
    from gpen_core import Entry, Face, FaceRestorer, Progress, RestoreInput, RestoreResult, SelfTest

CPU = torch.device("cpu")

_lock = threading.RLock()
_failed_devices: set[torch.device] = set()
_cache: dict[tuple[Any, ...], FaceRestorer] = {}


def model_files() -> list[str]:
    """Return the file names of the networks in the catalog and in the models folders."""
    return list_networks(host.models_dirs())


def model_choices() -> list[str]:
    """Return the automatic choices, of which the first is the default, then the files."""
    return [*AUTO_MODELS, *model_files()]


def available_detectors() -> list[str]:
    """See `list_detectors`."""
    return list_detectors(host.models_dirs())


def missing_files(model: str, options: RestoreOptions, detector: str) -> tuple[Entry, ...]:
    """Return the missing weights for the host's device. See `missing_weights`."""
    return missing_weights(model, options, detector, host.models_dirs(), _device().type)


def default_detector() -> str:
    return str(host.option("detector", DETECTORS[0]))


def restore(
    image: object,
    model: str,
    options: RestoreOptions,
    before_swap: object | None = None,
    region_mask: Any = None,
    boxes: Any = None,
    progress: Progress | None = None,
    detector: str | None = None,
) -> RestoreResult:
    """Restore an image, see `FaceRestorer.restore`. `model` is one of `model_choices`; paths are rejected. `progress` is
    called, too, and may stop the work. `detector` replaces the detector of the settings. Raises `GpenError`."""
    if model not in model_choices() and find_file(model, host.models_dirs()) is None:
        raise OptionsError(f"Unknown model {model!r}. Available: {', '.join(model_choices())}.")
    from gpen_core import RestoreInput

    frame = RestoreInput(image, before_swap=before_swap, region_mask=region_mask, boxes=boxes)
    detector = detector or default_detector()
    request = (model, detector, options.mask_type, required_weights(options), options.upscale > 1 and options.upscaler)
    with _lock, progress_scope(), failure_cache.fail_fast(request, host.models_dirs()):
        return _restore(frame, model, detector, options, HostProgress(progress))


def select_faces(image: object, model: str, options: RestoreOptions, detector: str) -> tuple[Face, ...]:
    """See `FaceRestorer.select_faces`. Raises `GpenError`."""
    from gpen_core import RestoreInput

    with _lock, progress_scope():
        restorer = _get_restorer(_device(), model, detector, HostProgress())
        with _on_device(restorer):
            return restorer.select_faces(RestoreInput(image), options)


def self_test() -> SelfTest:
    """Run the self-test with the device and precision of the settings. See `run_self_test`."""
    from gpen_core import run_self_test

    with _lock:
        device = _device()
        if device.type != "cpu":
            host.free_memory()
        try:
            return run_self_test(device, _precision())
        finally:
            host.collect_garbage()


def release() -> None:
    """Unload the networks, e.g. for another model or when the scripts are reloaded."""
    with _lock:
        _cache.clear()
        host.collect_garbage()


def _device() -> torch.device:
    return CPU if host.device() in _failed_devices else host.device()


def _precision() -> str:
    return str(host.option("precision", "auto"))


def _restore(frame: RestoreInput, model: str, detector: str, options: RestoreOptions, progress: Progress) -> RestoreResult:
    device = _device()
    try:
        return _restore_on(device, frame, model, detector, options, progress)
    except RuntimeError as error:
        if device.type != "privateuseone":  # DirectML lacks some operations and raises various errors for them
            raise
        host.log.warning("GPEN failed on DirectML (%s). It uses the CPU until the host is restarted.", error)
        _failed_devices.add(device)
        return _restore_on(CPU, frame, model, detector, options, progress)


def _restore_on(
    device: torch.device, frame: RestoreInput, model: str, detector: str, options: RestoreOptions, progress: Progress
) -> RestoreResult:
    restorer = _get_restorer(device, model, detector, progress)
    restorer.prepare(options, progress)
    with _on_device(restorer):
        return restorer.restore_batch([frame], options, progress=progress)[0]


def _get_restorer(device: torch.device, model: str, detector: str, progress: Progress) -> FaceRestorer:
    from gpen_core import FaceRestorer

    precision = _precision()
    folders = host.models_dirs()
    states = _fingerprints(model, detector)  # replaced files are loaded again
    key = (str(device), model, detector, precision, folders, states)
    if key not in _cache:
        release()  # keep only one, to leave memory to the host
        restorer = FaceRestorer.load(model, detector, folders, device, precision, progress=progress, offload_device=CPU)
        _cache[(*key[:-1], _fingerprints(model, detector))] = restorer  # after the download
        return restorer
    return _cache[key]


def _fingerprints(model: str, detector: str) -> tuple[Any, ...]:
    return tuple(fingerprint(name, host.models_dirs()) for name in (model, detector))


@contextmanager
def _on_device(restorer: FaceRestorer) -> Iterator[None]:
    if restorer.device.type != "cpu":
        host.free_memory()
    try:
        restorer.move_to(restorer.device)
        yield
    finally:
        restorer.release_memory()
        if host.unload_after_use():
            restorer.move_to(CPU)
            host.collect_garbage()

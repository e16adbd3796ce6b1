"""One restorer for all doors of a host: loaded when first needed, moved to the device while it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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

if TYPE_CHECKING:  # imported when first used: a host starts no slower for it
    from gpen_core import Entry, Face, FaceRestorer, Progress, RestoreInput, RestoreResult, SelfTest

CPU = torch.device("cpu")

_lock = threading.RLock()
_failed_devices: set[torch.device] = set()
_cache: dict[tuple[Any, ...], FaceRestorer] = {}


def model_files() -> list[str]:
    """File names of the networks of the catalog and of those in the models folders."""
    return list_networks(host.models_dirs())


def model_choices() -> list[str]:
    """What restores each face with the network of its size, which is the default, then the files."""
    return [*AUTO_MODELS, *model_files()]


def available_detectors() -> list[str]:
    """See `list_detectors`."""
    return list_detectors(host.models_dirs())


def missing_files(model: str, options: RestoreOptions, detector: str) -> tuple[Entry, ...]:
    """See `missing_weights`; on the device that is used here."""
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
    """See `FaceRestorer.restore`. `model` is one of `model_choices`: a path is refused. `progress` hears of the progress,
    too, and may stop the work; `detector` is another detector than the setting's. Raises `GpenError`."""
    if model not in model_choices() and find_file(model, host.models_dirs()) is None:
        raise OptionsError(f"{model!r} is none of the GPEN models: {', '.join(model_choices())}.")
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
        with _on_device(restorer), _without_autocast(restorer.device):
            return restorer.select_faces(RestoreInput(image), options)


def self_test() -> SelfTest:
    """See `run_self_test`: on the device and in the precision that images are restored with here."""
    from gpen_core import run_self_test

    with _lock:
        device = _device()
        if device.type != "cpu":
            host.free_memory()
        try:
            with _without_autocast(device):
                return run_self_test(device, _precision())
        finally:
            host.collect_garbage()


def release() -> None:
    """Forgets the networks: another model is chosen, or the scripts are reloaded."""
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
        if device.type != "privateuseone":  # DirectML lacks some operations, and says so in many ways
            raise
        host.log.warning("GPEN does not run on DirectML here (%s); until the host restarts it uses the CPU.", error)
        _failed_devices.add(device)
        return _restore_on(CPU, frame, model, detector, options, progress)


def _restore_on(
    device: torch.device, frame: RestoreInput, model: str, detector: str, options: RestoreOptions, progress: Progress
) -> RestoreResult:
    restorer = _get_restorer(device, model, detector, progress)
    restorer.prepare(options, progress)
    with _on_device(restorer), _without_autocast(device):
        return restorer.restore_batch([frame], options, progress=progress)[0]


def _get_restorer(device: torch.device, model: str, detector: str, progress: Progress) -> FaceRestorer:
    from gpen_core import FaceRestorer

    precision = _precision()
    folders = host.models_dirs()
    states = _fingerprints(model, detector)  # files that were replaced are loaded anew
    key = (str(device), model, detector, precision, folders, states)
    if key not in _cache:
        release()  # one at a time: memory is the host's
        restorer = FaceRestorer.load(model, detector, folders, device, precision, progress=progress, offload_device=CPU)
        _cache[(*key[:-1], _fingerprints(model, detector))] = restorer  # now that they are fetched
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


def _without_autocast(device: torch.device) -> Any:
    return torch.autocast(device.type, enabled=False) if device.type in ("cpu", "cuda") else nullcontext()

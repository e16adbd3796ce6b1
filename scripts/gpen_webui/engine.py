"""One restorer for all doors of a host: loaded when first needed, moved to the device while it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from gpen_core import AUTO_MODELS, DETECTORS, GpenError, RestoreOptions, detector_choices, find_in, network_choices, state_of

from . import failure_cache, host
from .host_progress import HostProgress, progress_scope

if TYPE_CHECKING:  # imported when first used: a host starts no slower for it
    from gpen_core import Face, FaceRestorer, Frame, Progress, RestoreResult, SelfTest

CPU = torch.device("cpu")

_lock = threading.RLock()
_failed: set[torch.device] = set()
_kept: dict[tuple[Any, ...], FaceRestorer] = {}


def files() -> list[str]:
    """File names of the networks of the catalog and of those in the models folders."""
    return network_choices(host.models_dirs())


def choices() -> list[str]:
    """The files, and what takes several of them by the size of the face."""
    return [*files(), *AUTO_MODELS]


def detectors() -> list[str]:
    """See `detector_choices`."""
    return detector_choices(host.models_dirs())


def detector() -> str:
    return str(host.option("detector", DETECTORS[0]))


def restore(
    image: object,
    model: str,
    options: RestoreOptions,
    before_swap: object | None = None,
    region_mask: Any = None,
    boxes: Any = None,
    told: Progress | None = None,
    finder: str | None = None,
) -> RestoreResult:
    """See `FaceRestorer.restore`. `model` is one of `choices`: a path is refused. `told` hears of the progress, too, and may
    stop the work; `finder` is another detector than the setting's. Raises `GpenError`."""
    if model not in choices() and find_in(model, host.models_dirs()) is None:
        raise GpenError(f"{model!r} is none of the GPEN models: {', '.join(choices())}.")
    from gpen_core import Frame

    frame = Frame(image, before_swap=before_swap, region_mask=region_mask, boxes=boxes)
    finder = finder or detector()
    wanted = (model, finder, options.mask_type, options.preserve, options.upscale > 1 and options.upscaler)
    with _lock, progress_scope(), failure_cache.asked_once(wanted, host.models_dirs()):
        return _restore(frame, model, finder, options, HostProgress(told))


def faces(image: object, model: str, options: RestoreOptions, finder: str) -> tuple[Face, ...]:
    """See `FaceRestorer.choose`. Raises `GpenError`."""
    from gpen_core import Frame

    with _lock, progress_scope():
        restorer = _restorer(_device(), model, finder, HostProgress())
        with _on_device(restorer), _without_autocast(restorer.device):
            return restorer.choose(Frame(image), options)


def self_test() -> SelfTest:
    """See `self_test_outcome`: on the device and in the precision that pictures are restored with here."""
    from gpen_core import self_test_outcome

    with _lock:
        device = _device()
        if device.type != "cpu":
            host.make_room()
        try:
            with _without_autocast(device):
                return self_test_outcome(device, _precision())
        finally:
            host.collect_garbage()


def release() -> None:
    """Forgets the networks: another model is chosen, or the scripts are reloaded."""
    with _lock:
        _kept.clear()
        host.collect_garbage()


def _device() -> torch.device:
    return CPU if host.device() in _failed else host.device()


def _precision() -> str:
    return str(host.option("precision", "auto"))


def _restore(frame: Frame, model: str, finder: str, options: RestoreOptions, progress: Progress) -> RestoreResult:
    device = _device()
    try:
        return _restore_on(device, frame, model, finder, options, progress)
    except RuntimeError as error:
        if device.type != "privateuseone":  # DirectML lacks some operations, and says so in many ways
            raise
        host.log.warning("GPEN does not run on DirectML here (%s); until the host restarts it uses the CPU.", error)
        _failed.add(device)
        return _restore_on(CPU, frame, model, finder, options, progress)


def _restore_on(
    device: torch.device, frame: Frame, model: str, finder: str, options: RestoreOptions, progress: Progress
) -> RestoreResult:
    restorer = _restorer(device, model, finder, progress)
    restorer.prepare(options, progress)
    with _on_device(restorer), _without_autocast(device):
        return restorer.restore_all([frame], options, progress=progress)[0]


def _restorer(device: torch.device, model: str, finder: str, progress: Progress) -> FaceRestorer:
    from gpen_core import FaceRestorer

    precision = _precision()
    folders = host.models_dirs()
    states = _states(model, finder)  # files that were replaced are loaded anew
    key = (str(device), model, finder, precision, folders, states)
    if key not in _kept:
        release()  # one at a time: memory is the host's
        restorer = FaceRestorer.load(model, finder, folders, device, precision, progress=progress, weights_on=CPU)
        _kept[(*key[:-1], _states(model, finder))] = restorer  # now that they are fetched
        return restorer
    return _kept[key]


def _states(model: str, finder: str) -> tuple[Any, ...]:
    return tuple(state_of(name, host.models_dirs()) for name in (model, finder))


@contextmanager
def _on_device(restorer: FaceRestorer) -> Iterator[None]:
    if restorer.device.type != "cpu":
        host.make_room()
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

"""Chooses the model of a node: the linked one, or one loaded here."""

from __future__ import annotations

import logging
from string import hexdigits

import comfy.model_management as management

from ..gpen_core import AUTO_MODELS, OptionsError, can_download
from . import folders
from .host_progress import NodeProgress
from .model import GpenModel

log = logging.getLogger(__name__)

PARSER = "parsenet"
SHA256_DIGITS = 64
_downloaded: set[str] = set()  # see `fingerprint`
_last_loaded: list[
    tuple[tuple[str | None, ...], GpenModel]
] = []  # the last model loaded without Load GPEN Model, with its cache key


def load_model(model: str, detector: str, precision: str, reporter: NodeProgress, accepted_digest: str = "") -> GpenModel:
    """Load a GPEN network and a detector. A changed file with the SHA-256 `accepted_digest` is accepted.

    Raises `OptionsError` for an unknown name, `WeightsError` for rejected files, and `MissingWeights` for files that
    cannot be downloaded. Raises `DeviceError` for a precision that the device lacks, and ComfyUI's own exception when
    interrupted."""
    # ComfyUI checks values that are entered in the node, but not values that come through a link.
    for name, known in ((model, folders.known_models()), (detector, folders.known_detectors())):
        if name not in known:
            raise OptionsError(f"Unknown model {name!r}. Available: {', '.join(known)}.")
    if can_download() and model in folders.missing_models():
        log.info("GPEN: %s is not in %s. Downloading it.", model, folders.model_dirs()[0])
    if accepted_digest.strip():
        _accept(accepted_digest, model, detector)
    return _load(model, detector, precision, reporter)


def _load(model: str | None, detector: str, precision: str, reporter: NodeProgress) -> GpenModel:
    before = _fingerprints(model, detector)
    loaded = GpenModel.load(model, folders.detector_file(detector), precision, reporter)
    _downloaded.update(now for then, now in zip(before, _fingerprints(model, detector)) if not then)
    return loaded


def linked_or_loaded(linked: GpenModel | None, model: str | None, reporter: NodeProgress) -> GpenModel:
    """Return the linked model, else `model` with the default detector. The last loaded model stays in memory."""
    if linked is not None:
        return linked
    if not _last_loaded or _last_loaded[0][0] != _cache_key(model):
        _last_loaded.clear()  # frees its memory for the next one
        if model is None:
            loaded = _load(None, folders.AUTO_DETECTOR, "auto", reporter)
        else:
            loaded = load_model(model, folders.AUTO_DETECTOR, "auto", reporter)
        _last_loaded.append((_cache_key(model), loaded))
    return _last_loaded[0][1]


def linked_or_any(linked: GpenModel | None, reporter: NodeProgress) -> GpenModel:
    """Return the linked model, else any loaded one, else one without a network. For nodes that use only the detector."""
    return linked_or_loaded(linked, _last_loaded[0][0][0] if _last_loaded else None, reporter)


def fingerprint(model: str | None, detector: str | None = folders.AUTO_DETECTOR) -> str:
    """Return text that changes when a file is replaced under the same name, but not when a missing file is downloaded."""
    return " | ".join(state for state in _fingerprints(model, detector) if state and state not in _downloaded)


def _accept(digest: str, model: str, detector: str) -> None:
    """Accept the changed file with this digest: a network, the detector or the face parser."""
    from ..gpen_core import accept_digest  # imported late to keep ComfyUI's startup fast

    sha256 = digest.strip().lower()
    if len(sha256) != SHA256_DIGITS or set(sha256) - set(hexdigits):
        raise OptionsError(f"accept_changed is {digest!r}. Expected a SHA-256 ({SHA256_DIGITS} hex digits) or nothing.")
    networks = folders.known_models() if model in AUTO_MODELS else [model]
    detection = [folders.detector_file(detector), PARSER]
    for names, paths in ((networks, folders.model_dirs()), (detection, folders.detection_dirs())):
        for path in accept_digest(sha256, names, paths):
            log.warning("GPEN: accepted the changed file %s (SHA-256 %s).", path, sha256)


def _cache_key(model: str | None) -> tuple[str | None, ...]:
    return (model, str(management.get_torch_device()), *_fingerprints(model, folders.AUTO_DETECTOR))


def _fingerprints(model: str | None, detector: str | None) -> list[str]:
    """An input that comes through a link is None before the node runs."""
    detector_file = detector and folders.detector_file(detector)
    lookups = ((model, folders.model_dirs()), (detector_file, folders.detection_dirs()))
    return [folders.fingerprint(name, paths) if name else "" for name, paths in lookups]

"""Which model a node works with: the one that is linked, or one that is loaded here."""

from __future__ import annotations

import logging
from string import hexdigits

import comfy.model_management as management

from ..gpen_core import AUTO_MODELS, MissingWeights, OptionsError, can_download
from . import folders
from .host_progress import NodeProgress
from .model import GpenModel

log = logging.getLogger(__name__)

FOLDERS_HELP = (
    f"In ComfyUI, GPEN's files belong in models/{folders.MODELS}, detectors and face parsers in models/{folders.DETECTION}; "
    "extra_model_paths.yaml names other folders for both."
)
MIRROR_HELP = "The environment variable GPEN_MIRROR names another source."
PARSER = "parsenet"
SHA256_DIGITS = 64
_downloaded: set[str] = set()  # see `fingerprint`
_last_loaded: list[tuple[tuple[str, ...], GpenModel]] = []  # the last model of nodes without Load GPEN Model, and its key


def load_model(model: str, detector: str, precision: str, reporter: NodeProgress, accepted_digest: str = "") -> GpenModel:
    """With `accepted_digest`, a SHA-256, a file that has it counts as the user's own choice, whatever was there before.

    Raises `OptionsError` for a name that is in no list, `WeightsError` for files that are refused, `MissingWeights` for
    those that are not there and cannot be fetched, `DeviceError` for a precision that the device lacks, and ComfyUI's own
    error when interrupted."""
    # ComfyUI compares a value with its list only where it is written in the graph, not where a link brings it.
    for name, known in ((model, folders.known_models()), (detector, folders.known_detectors())):
        if name not in known:
            raise OptionsError(f"Unknown model {name!r}. Available: {', '.join(known)}.")
    if can_download() and model in folders.missing_models():
        log.info("GPEN: %s is not in %s; it is downloaded now.", model, folders.model_dirs()[0])
    if accepted_digest.strip():
        _accept(accepted_digest, model, detector)
    before = _fingerprints(model, detector)
    try:
        loaded = GpenModel.load(model, folders.detector_file(detector), precision, reporter)
    except MissingWeights as error:
        help_ = f"{FOLDERS_HELP} {MIRROR_HELP}" if can_download() else FOLDERS_HELP
        raise MissingWeights(f"{error}\n{help_}") from error
    _downloaded.update(now for then, now in zip(before, _fingerprints(model, detector)) if not then)
    return loaded


def linked_or_loaded(linked: GpenModel | None, model: str, reporter: NodeProgress) -> GpenModel:
    """The linked model, else the one of that name with the default detector. The last one stays loaded."""
    if linked is not None:
        return linked
    if not _last_loaded or _last_loaded[0][0] != _cache_key(model):
        _last_loaded.clear()  # its memory is free for the next
        loaded = load_model(model, folders.AUTO_DETECTOR, "auto", reporter)
        _last_loaded.append((_cache_key(model), loaded))
    return _last_loaded[0][1]


def linked_or_any(linked: GpenModel | None, reporter: NodeProgress) -> GpenModel:
    """The same where only the detector is used: whichever model is loaded will do."""
    if linked is None and _last_loaded:
        key = _last_loaded[0][0]
        return linked_or_loaded(None, key[0], reporter)
    return linked_or_loaded(linked, AUTO_MODELS[0], reporter)


def fingerprint(model: str | None, detector: str | None = folders.AUTO_DETECTOR) -> str:
    """Changes when a file is replaced under the same name. What was fetched since counts as it did before it was there."""
    return " | ".join(state for state in _fingerprints(model, detector) if state and state not in _downloaded)


def _accept(digest: str, model: str, detector: str) -> None:
    """Remembers the file with this digest as it is now: a network, the detector or the face parser."""
    from ..gpen_core import accept_digest  # brings torch's loading, which ComfyUI's start is spared

    sha256 = digest.strip().lower()
    if len(sha256) != SHA256_DIGITS or set(sha256) - set(hexdigits):
        raise OptionsError(f"accept_changed is {digest!r}; expected the {SHA256_DIGITS} digits of a SHA-256, or nothing.")
    networks = folders.known_models() if model in AUTO_MODELS else [model]
    detection = [folders.detector_file(detector), PARSER]
    for names, paths in ((networks, folders.model_dirs()), (detection, folders.detection_dirs())):
        for path in accept_digest(sha256, names, paths):
            log.warning("GPEN: %s is accepted as it is now: SHA-256 %s.", path, sha256)


def _cache_key(model: str) -> tuple[str, ...]:
    return (model, str(management.get_torch_device()), *_fingerprints(model, folders.AUTO_DETECTOR))


def _fingerprints(model: str | None, detector: str | None) -> list[str]:
    """An input that a link brings is not known before the node runs."""
    detector_file = detector and folders.detector_file(detector)
    lookups = ((model, folders.model_dirs()), (detector_file, folders.detection_dirs()))
    return [folders.fingerprint(name, paths) if name else "" for name, paths in lookups]

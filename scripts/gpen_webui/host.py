"""Functions that differ between A1111, Forge and SD.Next: device, folders, memory, messages."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from modules import devices, paths, shared
from modules.call_queue import queue_lock

from gpen_core import (
    DeviceError,
    GpenError,
    InputError,
    Interrupted,
    MissingDependency,
    MissingWeights,
    OptionsError,
    OutOfMemory,
    WeightsError,
)

from . import run_report

NAME = "GPEN"

EXTRA_MODEL_FOLDERS = ("facerestore_models", "GFPGAN")  # folders of ReActor for ComfyUI and of the hosts' own restorers
SHORT_REASONS: tuple[tuple[type[GpenError], str], ...] = (
    (MissingWeights, "weights are missing"),
    (WeightsError, "weights were refused"),
    (OptionsError, "a value is invalid"),
    (InputError, "the image cannot be restored"),
    (DeviceError, "the device is not available"),
    (MissingDependency, "a Python package is missing"),
    (OutOfMemory, "out of memory"),
    (Interrupted, "interrupted"),
)
MAX_TOAST_LENGTH, LONG_WORD = 120, 40  # characters; toasts cut off long words

_last_notification: tuple[str, object] | None = None


def is_sdnext() -> bool:
    """Return whether the host is SD.Next, which has no list of face restorers."""
    return getattr(shared, "face_restorers", None) is None


def _merge_arguments(record: logging.LogRecord) -> bool:
    """Format a record before SD.Next's handlers get it.

    After an error, SD.Next's ring buffer comes before its console. It replaces the message by the formatted one and keeps
    the arguments, so that the console drops the record."""
    record.msg, record.args = record.getMessage(), ()
    return True


log = logging.getLogger("sd.gpen_webui" if is_sdnext() else "gpen_webui")  # SD.Next's console shows only loggers below "sd"
if is_sdnext():
    log.addFilter(_merge_arguments)


def option(name: str, default: Any) -> Any:
    """Return one of our settings, or `default` if the settings page was never built (--nowebui)."""
    value = getattr(shared.opts, f"gpen_{name}", None)
    return default if value is None else value


def routes(app: Any) -> Any:
    """Return the object to add routes to: SD.Next's API, which protects them with its password, else the app."""
    return getattr(shared, "api", None) or app


def device() -> torch.device:
    """Return the host's device, or the CPU with --use-cpu gpen or all. Forge and SD.Next ignore --use-cpu themselves."""
    on_cpu = getattr(shared.cmd_opts, "use_cpu", None) or []
    if {"gpen", "all"} & {str(name).lower() for name in on_cpu}:
        return torch.device("cpu")
    ask = getattr(devices, "get_device_for", None)
    return torch.device(ask("gpen") if ask else devices.get_optimal_device())


def models_dirs() -> tuple[Path, ...]:
    """Return the folders searched for weights. Missing files are downloaded into the first."""
    models = Path(paths.models_path)
    named = getattr(shared.cmd_opts, "gpen_models_path", None) or option("models_path", "")
    first = Path(named) if named else models / "GPEN"
    return (first, *(models / name for name in EXTRA_MODEL_FOLDERS))


def make_models_folder() -> None:
    """Create the models folder, so that users can find it."""
    try:
        models_dirs()[0].mkdir(exist_ok=True)
    except OSError as error:
        log.warning("GPEN: could not create the folder %s (%s).", models_dirs()[0], error.strerror)


@contextmanager
def queued() -> Iterator[None]:
    """Run the body as a job in the host's queue."""
    with queue_lock:
        shared.state.begin("gpen")  # positional: SD.Next names the argument differently
        try:
            yield
        finally:
            shared.state.end()


def free_memory() -> None:
    """Ask the memory manager of Forge (`utils`) or reForge (`forge_util`) to unload other models."""
    for name in ("modules_forge.utils", "modules_forge.forge_util"):
        try:
            free = importlib.import_module(name).prepare_free_memory
        except (ImportError, AttributeError):  # another host
            continue
        free()
        return


def unload_after_use() -> bool:
    return bool(option("unload", False) or getattr(shared.opts, "face_restoration_unload", False))


def collect_garbage() -> None:
    devices.torch_gc()


def weights_help() -> str:
    """Return where this host keeps weights, in place of the command line's options."""
    return (
        f"In this host, put weights into {models_dirs()[0]} (change it with --gpen-models-path or in the GPEN settings). To "
        "use a mirror, set GPEN_MIRROR before you start the host."
    )


def short_reason(error: GpenError) -> str:
    """Return a few words without a path, for an image's metadata."""
    return _known_reason(error) or "not restored"


def _known_reason(error: GpenError) -> str:
    return next((words for kind, words in SHORT_REASONS if isinstance(error, kind)), "")


def can_skip_saving() -> bool:
    """Return whether the current image belongs to the Extras page, whose jobs have the operation's name."""
    return bool(shared.state.job == NAME)


def drops_image() -> bool:
    """Return whether the user has pressed Skip on the Extras page, which then neither shows nor saves the image."""
    return can_skip_saving() and bool(shared.state.skipped) and not is_sdnext()


def skip_saving(error: GpenError) -> None:
    """Make the Extras page not save the current image, like its Skip button. SD.Next can only end the run."""
    if is_sdnext():
        raise error
    shared.state.skipped = True


def notify(error: GpenError, p: Any = None, note: str = "", place: str = "", file: str = "") -> None:
    """Show a failure to the user: one short sentence as a toast, and the details in the log and below the result.

    Repeated failures of a run are logged in short. `place` names another extension in which it happened, `file` the
    image of a batch."""
    global _last_notification
    headline, *details = failure_texts(error, place)
    texts = (*filter(None, (file and f"{file}:",)), headline, *details, *filter(None, (note,)))
    message = " ".join(texts)
    notification = (message, getattr(shared.state, "job_timestamp", None))
    is_new, _last_notification = notification != _last_notification, notification
    log.error("%s", message if is_new else f"{message[:80]}... (as before)")
    if p is not None and hasattr(p, "comment"):
        p.comment(message)
    else:
        run_report.add(*texts)
    if is_new:
        warn(headline)


def failure_texts(error: GpenError, place: str = "") -> tuple[str, ...]:
    """Return one short sentence, then the details if there are more."""
    reason, details = _toast_reason(error), str(error)
    headline = f"GPEN restored nothing{place and f' in {place}'}{reason and f': {reason}'}."
    return (headline,) if reason == details.rstrip(".") else (headline, details)


def warn(text: str) -> None:
    """Show a toast on the page. Without a page, gradio writes it into the log."""
    show = getattr(gr, "Warning", None)
    if show is not None:
        show(text)


def has_queue() -> bool:
    """Return whether the page can show progress."""
    return not getattr(shared.cmd_opts, "no_gradio_queue", False)


def report_notes(notes: Iterable[str], p: Any = None) -> None:
    """Show notes about a result, e.g. a network that would fit better."""
    for note in notes:
        log.info("GPEN: %s", note)
        if p is not None and hasattr(p, "comment"):
            p.comment(f"GPEN: {note}")
        else:
            run_report.add("GPEN:", note)


def _toast_reason(error: GpenError) -> str:
    """Return the message of an invalid value or image if it is short, else the kind of error, else an empty string."""
    text = str(error).rstrip(".")
    is_short = len(text) <= MAX_TOAST_LENGTH and max(map(len, text.split()), default=0) < LONG_WORD
    if is_short and isinstance(error, (OptionsError, InputError, MissingDependency)):
        return text
    return _known_reason(error)

"""What differs between A1111, Forge and SD.Next, in one place: device, folders, memory, messages."""

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

EXTRA_MODEL_FOLDERS = ("facerestore_models", "GFPGAN")  # where ReActor for ComfyUI and the hosts' own restorers keep theirs
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
MAX_TOAST_LENGTH, LONG_WORD = 120, 40  # characters: toasts cut off long words

_last_notification: tuple[str, object] | None = None


def is_sdnext() -> bool:
    """SD.Next has no list of face restorers."""
    return getattr(shared, "face_restorers", None) is None


log = logging.getLogger("sd.gpen_webui" if is_sdnext() else "gpen_webui")  # its console shows nothing but what is below "sd"


def option(name: str, default: Any) -> Any:
    """A setting of ours; its default where the settings page was never built (--nowebui)."""
    value = getattr(shared.opts, f"gpen_{name}", None)
    return default if value is None else value


def routes(app: Any) -> Any:
    """What a route of ours is added to: SD.Next's own API puts it behind its password, elsewhere it is the app."""
    return getattr(shared, "api", None) or app


def device() -> torch.device:
    """The host's device; the CPU where --use-cpu says gpen or all (Forge and SD.Next do not look at that themselves)."""
    on_cpu = getattr(shared.cmd_opts, "use_cpu", None) or []
    if {"gpen", "all"} & {str(name).lower() for name in on_cpu}:
        return torch.device("cpu")
    ask = getattr(devices, "get_device_for", None)
    return torch.device(ask("gpen") if ask else devices.get_optimal_device())


def models_dirs() -> tuple[Path, ...]:
    """Where weights are looked for; what is missing is fetched into the first."""
    models = Path(paths.models_path)
    named = getattr(shared.cmd_opts, "gpen_models_path", None) or option("models_path", "")
    first = Path(named) if named else models / "GPEN"
    return (first, *(models / name for name in EXTRA_MODEL_FOLDERS))


def make_models_folder() -> None:
    """So that whoever looks for the place finds it."""
    try:
        models_dirs()[0].mkdir(exist_ok=True)
    except OSError as error:
        log.warning("GPEN: %s cannot be made (%s).", models_dirs()[0], error.strerror)


@contextmanager
def queued() -> Iterator[None]:
    """Work of ours that no job of the host's is: when its turn comes, shown as a job."""
    with queue_lock:
        shared.state.begin("gpen")  # SD.Next names the argument otherwise
        try:
            yield
        finally:
            shared.state.end()


def free_memory() -> None:
    """Asks the memory manager of Forge (`utils`) or reForge (`forge_util`) to take other models off the device."""
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
    """What this host has in place of the command line's options."""
    return (
        f"In this host weights lie in {models_dirs()[0]} (--gpen-models-path, or the setting of GPEN's models folder); a "
        "mirror is named by $GPEN_MIRROR before the host starts."
    )


def short_reason(error: GpenError) -> str:
    """A few words without a path, for an image's metadata."""
    return _known_reason(error) or "not restored"


def _known_reason(error: GpenError) -> str:
    return next((words for kind, words in SHORT_REASONS if isinstance(error, kind)), "")


def can_skip_saving() -> bool:
    """Whether the image in hand is one of the Extras page, whose jobs bear the operation's name."""
    return bool(shared.state.job == NAME)


def skip_saving(error: GpenError) -> None:
    """Makes the Extras page save nothing for the image in hand, as its Skip does. SD.Next can but end the run."""
    if is_sdnext():
        raise error
    shared.state.skipped = True


def notify(error: GpenError, p: Any = None, note: str = "", place: str = "") -> None:
    """Shows a failure to the user: one short sentence as a message on the page; all of it in the log and, for as long as the
    result is shown, below the image. In full once in a run. `place` is where it happened, if not in GPEN's own controls."""
    global _last_notification
    texts = (*failure_texts(error, place), *filter(None, (note,)))
    message = " ".join(texts)
    notification = (message, getattr(shared.state, "job_timestamp", None))
    is_new, _last_notification = notification != _last_notification, notification
    log.error("%s", message if is_new else f"{message[:80]}... (as before)")
    if p is not None and hasattr(p, "comment"):
        p.comment(message)
    else:
        run_report.add(*texts)
    if is_new:
        warn(texts[0])


def failure_texts(error: GpenError, place: str = "") -> tuple[str, ...]:
    """One short sentence, then the details where there are more."""
    reason, details = _toast_reason(error), str(error)
    headline = f"GPEN restored nothing{place and f' in {place}'}{reason and f': {reason}'}."
    return (headline,) if reason == details.rstrip(".") else (headline, details)


def warn(text: str) -> None:
    """A message on the page; where no page listens, gradio puts it into the log."""
    show = getattr(gr, "Warning", None)
    if show is not None:
        show(text)


def has_queue() -> bool:
    """Whether the page hears of work while it is done."""
    return not getattr(shared.cmd_opts, "no_gradio_queue", False)


def report_notes(notes: Iterable[str], p: Any = None) -> None:
    """What is to be known of a result, such as a network that would suit better."""
    for note in notes:
        log.info("GPEN: %s", note)
        if p is not None and hasattr(p, "comment"):
            p.comment(f"GPEN: {note}")
        else:
            run_report.add("GPEN:", note)


def _toast_reason(error: GpenError) -> str:
    """A value or an image that is wrong is named, if that takes few words. Empty where there is no short reason."""
    text = str(error).rstrip(".")
    is_short = len(text) <= MAX_TOAST_LENGTH and max(map(len, text.split()), default=0) < LONG_WORD
    if is_short and isinstance(error, (OptionsError, InputError, MissingDependency)):
        return text
    return _known_reason(error)

"""What differs between A1111, Forge and SD.Next, in one place: device, folders, memory, progress, messages."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import torch
from modules import devices, paths, shared

from gpen_core import Interrupted

log = logging.getLogger("gpen_webui")

ALSO_IN = ("facerestore_models", "GFPGAN")  # where ReActor for ComfyUI and the hosts' own restorers keep theirs


def option(name: str, default: Any) -> Any:
    """A setting of ours; its default where the settings page was never built (--nowebui)."""
    value = getattr(shared.opts, f"gpen_{name}", None)
    return default if value is None else value


def is_sdnext() -> bool:
    """SD.Next has no list of face restorers."""
    return getattr(shared, "face_restorers", None) is None


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
    return (first, *(models / name for name in ALSO_IN))


def make_room() -> None:
    """Asks the memory manager of Forge (`utils`) or reForge (`forge_util`) to take other models off the device."""
    for name in ("modules_forge.utils", "modules_forge.forge_util"):
        try:
            ask = importlib.import_module(name).prepare_free_memory
        except (ImportError, AttributeError):  # another host
            continue
        ask()
        return


def unload_after_use() -> bool:
    return bool(option("unload", False) or getattr(shared.opts, "face_restoration_unload", False))


def collect_garbage() -> None:
    devices.torch_gc()


def progress(done: int, total: int, text: str) -> None:
    """The host's progress bar, told of faces; raises `Interrupted` once the user has interrupted or skipped."""
    state = shared.state
    if state.interrupted or state.skipped:
        raise Interrupted("Interrupted: the picture is left as it was.")
    if total:
        state.sampling_steps, state.sampling_step = total, done
        state.textinfo = f"GPEN: {text}" if total > 1000 else f"GPEN: {text} {done}/{total}"  # bytes are not counted out


def tell(problem: str, p: Any = None) -> None:
    """Shows a failure to the user: in the log, and below the picture where the host has a place for it."""
    log.error("GPEN: %s", problem)
    if p is not None and hasattr(p, "comment"):
        p.comment(f"GPEN: {problem}")

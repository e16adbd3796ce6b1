"""The face restorer "GPEN": for "Restore faces" by its setting, ADetailer, Roop, FaceSwapLab and the API's list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from modules import shared

from gpen_core import GpenError, Interrupted

from . import controls, engine, host

NAME = host.NAME

_last_error: GpenError | None = None


class GpenRestorer:
    """As `modules.face_restoration.FaceRestoration`: RGB uint8 in and out, the rest from the settings."""

    def name(self) -> str:
        return NAME

    def restore(self, np_image: Any) -> Any:
        """[H, W, 3] uint8 RGB -> the same. What goes wrong is kept for the next place that can show it."""
        return np.asarray(restore_with_settings(np_image, _keep_error))


def restore_with_settings(image: Any, on_error: Callable[[GpenError], None], strength: float | None = None) -> Any:
    """The image restored as the settings say; the image itself where it fails, which `on_error` hears, or is stopped."""
    try:
        values = controls.parse_values(enable=True, strength=strength)
        return engine.restore(image, values.model, values.options).image
    except Interrupted as stop:
        host.log.info("GPEN: %s", stop)
    except GpenError as error:
        on_error(error)
    return image


def _keep_error(problem: GpenError) -> None:
    global _last_error
    host.notify(problem)
    _last_error = problem


def pop_error() -> GpenError | None:
    """What went wrong since this was last asked."""
    global _last_error
    error, _last_error = _last_error, None
    return error


def register() -> None:
    """Puts ours at the end of the host's list, in the place of an older one: the list survives "Reload UI"."""
    if host.is_sdnext():
        return
    known = shared.face_restorers
    known[:] = [one for one in known if one.name() != NAME]
    known.append(GpenRestorer())

"""The face restorer "GPEN", used by "Restore faces", ADetailer, Roop, FaceSwapLab and the API."""

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
    """Implements `modules.face_restoration.FaceRestoration`. All options come from the settings."""

    def name(self) -> str:
        return NAME

    def restore(self, np_image: Any) -> Any:
        """Restore an RGB image [H, W, 3] uint8. An error is kept for `pop_error`, whose caller can show it."""
        return np.asarray(restore_with_settings(np_image, _keep_error))


def restore_with_settings(image: Any, on_error: Callable[[GpenError], None], strength: float | None = None) -> Any:
    """Restore an image with the settings. If that is interrupted or fails, return the image; `on_error` gets the error."""
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
    """Return and clear the last error."""
    global _last_error
    error, _last_error = _last_error, None
    return error


def register() -> None:
    """Add our restorer to the host's list. Remove an older one first, because the list survives "Reload UI"."""
    if host.is_sdnext():
        return
    known = shared.face_restorers
    known[:] = [one for one in known if one.name() != NAME]
    known.append(GpenRestorer())

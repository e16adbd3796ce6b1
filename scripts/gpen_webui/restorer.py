"""The face restorer "GPEN": for "Restore faces" by its setting, ADetailer, Roop, FaceSwapLab and the API's list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from modules import shared

from gpen_core import GpenError, Interrupted

from . import controls, engine, host

NAME = host.NAME

_problem: str | None = None


class GpenRestorer:
    """As `modules.face_restoration.FaceRestoration`: RGB uint8 in and out, the rest from the settings."""

    def name(self) -> str:
        return NAME

    def restore(self, np_image: Any) -> Any:
        """[H, W, 3] uint8 RGB -> the same. What goes wrong is kept for the next place that can show it."""
        return np.asarray(by_settings(np_image, _keep))


def by_settings(image: Any, tell: Callable[[str], None], strength: float | None = None) -> Any:
    """The picture restored as the settings say; the picture itself where it fails, which `tell` hears, or is stopped."""
    try:
        values = controls.values(enable=True, strength=strength)
        return engine.restore(image, values.model, values.options).image
    except Interrupted as stop:
        host.log.info("GPEN: %s", stop)
    except GpenError as error:
        tell(str(error))
    return image


def _keep(problem: str) -> None:
    global _problem
    host.tell(problem)
    _problem = problem


def take_problem() -> str | None:
    """What went wrong since this was last asked."""
    global _problem
    told, _problem = _problem, None
    return told


def register() -> None:
    """Puts ours at the end of the host's list, in the place of an older one: the list survives "Reload UI"."""
    if host.is_sdnext():
        return
    known = shared.face_restorers
    known[:] = [one for one in known if one.name() != NAME]
    known.append(GpenRestorer())

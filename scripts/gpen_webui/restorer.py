"""The face restorer "GPEN": for "Restore faces" by its setting, ADetailer, Roop, FaceSwapLab and the API's list."""

from __future__ import annotations

from typing import Any

import numpy as np
from modules import shared

from gpen_core import GpenError, Interrupted

from . import controls, engine, host

NAME = "GPEN"

_problem: str | None = None


class GpenRestorer:
    """As `modules.face_restoration.FaceRestoration`: RGB uint8 in and out, the rest from the settings."""

    def name(self) -> str:
        return NAME

    def restore(self, np_image: Any) -> Any:
        """[H, W, 3] uint8 RGB -> the same. What goes wrong is kept for the next place that can show it."""
        global _problem
        try:
            values = controls.values(enable=True)
            return np.asarray(engine.restore(np_image, values.model, values.options).image)
        except Interrupted as stop:
            host.log.info("GPEN: %s", stop)
        except GpenError as error:
            host.tell(str(error))
            _problem = str(error)
        return np_image


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

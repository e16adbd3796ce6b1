"""Makes ReActor run GPEN if GPEN is its *Restore Face*. ReActor itself runs GFPGAN for every name except CodeFormer.

This wraps ReActor's `restore_face` in memory. If that function has other parameters than expected, it is not wrapped."""

from __future__ import annotations

import functools
import inspect
import sys
from functools import partial
from typing import Any

from PIL import Image

from . import host
from .restorer import NAME, restore_with_settings

MODULE, FUNCTION = "reactor_swapper", "restore_face"
PARAMETERS = ["image", "enhancement_options"]

_warned: set[str] = set()


def wrap() -> None:
    """Wrap the function if the setting is on. A reload creates a new ReActor module, which is wrapped again."""
    if not host.option("wrap_reactor", True):
        return
    for name, module in list(sys.modules.items()):
        if name.rpartition(".")[2] == MODULE:
            _wrap_in(module)


def _wrap_in(module: Any) -> None:
    original = getattr(module, FUNCTION, None)
    if getattr(original, "gpen", False):
        return
    if not callable(original) or list(inspect.signature(original).parameters) != PARAMETERS:
        _warn_once(f"ReActor's {FUNCTION} has unexpected parameters: GPEN as its Restore Face may run GFPGAN.")
        return

    @functools.wraps(original)
    def restore_face(image: Image.Image, enhancement_options: Any) -> Image.Image:
        chosen = getattr(enhancement_options, "face_restorer", None)
        if chosen is None or chosen.name() != NAME or not host.option("wrap_reactor", True):
            return original(image, enhancement_options)  # type: ignore[no-any-return]
        return _restore(image, enhancement_options)

    restore_face.gpen = True  # type: ignore[attr-defined]
    setattr(module, FUNCTION, restore_face)
    _warn_once(
        "ReActor's Restore Face runs GPEN if GPEN is selected there. ReActor's modes Save Original, several sources and "
        "source folder swap after saving. With them, use Restore Face or the Extras page to restore the swapped image."
    )


def _restore(image: Image.Image, enhancement_options: Any) -> Image.Image:
    strength = float(getattr(enhancement_options, "restorer_visibility", 1.0))
    restored: Image.Image = restore_with_settings(image, partial(host.notify, place="ReActor"), strength)
    return restored


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        host.log.warning("GPEN: %s", text)

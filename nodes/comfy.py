"""ComfyUI's node interface, in the version that is installed."""

from __future__ import annotations

import inspect
from typing import Any

MIN_VERSION = "0.3.48"

try:
    try:
        from comfy_api.v0_0_2 import ComfyExtension, Input, InputImpl, io, ui
    except ImportError:
        from comfy_api.latest import ComfyExtension, Input, InputImpl, io, ui
    from comfy_execution.graph_utils import ExecutionBlocker
except ImportError as error:
    raise ImportError(
        f"sd-gpen needs ComfyUI {MIN_VERSION} or newer: its node interface was not found ({error}). Update ComfyUI."
    ) from error

ComfyNode = io.ComfyNode
NodeOutput = io.NodeOutput
GpenModelType = io.Custom("GPEN_MODEL")
FaceOptionsType = io.Custom("GPEN_FACE_OPTIONS")
LookOptionsType = io.Custom("GPEN_LOOK_OPTIONS")
PlacementsType = io.Custom("GPEN_PLACEMENTS")
BoundingBoxes = io.Custom("BOUNDING_BOX")
AnyBoundingBoxes = io.Custom("BOUNDING_BOX,BBOX,SEGS")  # types of ComfyUI, other packs and Impact Pack

__all__ = [
    "AnyBoundingBoxes",
    "BoundingBoxes",
    "ComfyExtension",
    "ComfyNode",
    "ExecutionBlocker",
    "FaceOptionsType",
    "GpenModelType",
    "Input",
    "InputImpl",
    "LookOptionsType",
    "NodeOutput",
    "PlacementsType",
    "advanced",
    "io",
    "schema",
    "ui",
]


def advanced(one: Any) -> Any:
    """Mark an input as advanced, so that ComfyUI hides it at first. Versions before 0.8.0 have no argument for this but pass
    on `extra_dict`."""
    one.extra_dict = {**(getattr(one, "extra_dict", None) or {}), "advanced": True}
    return one


def schema(**arguments: Any) -> Any:
    """Create an `io.Schema` from the arguments that this version of ComfyUI supports. Versions without search words get
    them in the description."""
    supported = inspect.signature(io.Schema).parameters
    aliases = arguments.get("search_aliases")
    if aliases and "search_aliases" not in supported:
        arguments["description"] += f" Search words: {', '.join(aliases)}."
    return io.Schema(**{name: value for name, value in arguments.items() if name in supported})

"""ComfyUI's node interface, whichever version of it is there."""

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
        f"sd-gpen needs ComfyUI {MIN_VERSION} or newer, whose node interface is not here ({error})."
    ) from error

ComfyNode = io.ComfyNode
NodeOutput = io.NodeOutput
GpenModelType = io.Custom("GPEN_MODEL")
FaceOptionsType = io.Custom("GPEN_FACE_OPTIONS")
LookOptionsType = io.Custom("GPEN_LOOK_OPTIONS")
PlacementsType = io.Custom("GPEN_PLACEMENTS")
BoundingBoxes = io.Custom("BOUNDING_BOX")
AnyBoundingBoxes = io.Custom("BOUNDING_BOX,BBOX,SEGS")  # the core's, other packs', and Impact Pack's segments

__all__ = [
    "BoundingBoxes",
    "AnyBoundingBoxes",
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
    """The input, folded away at first sight. Versions before 0.8.0 know no argument for that, but pass on what is in
    `extra_dict`."""
    one.extra_dict = {**(getattr(one, "extra_dict", None) or {}), "advanced": True}
    return one


def schema(**arguments: Any) -> Any:
    """`io.Schema` with those of the arguments that this ComfyUI knows. Search words came later than the rest: before, they
    stand in the description."""
    supported = inspect.signature(io.Schema).parameters
    aliases = arguments.get("search_aliases")
    if aliases and "search_aliases" not in supported:
        arguments["description"] += f" Search words: {', '.join(aliases)}."
    return io.Schema(**{name: value for name, value in arguments.items() if name in supported})

"""ComfyUI's node interface, whichever version of it is there."""

from __future__ import annotations

import inspect
from typing import Any

OLDEST = "0.3.48"

try:
    try:
        from comfy_api.v0_0_2 import ComfyExtension, Input, InputImpl, io, ui
    except ImportError:
        from comfy_api.latest import ComfyExtension, Input, InputImpl, io, ui
    from comfy_execution.graph_utils import ExecutionBlocker
except ImportError as error:
    raise ImportError(f"sd-gpen needs ComfyUI {OLDEST} or newer, whose node interface is not here ({error}).") from error

ComfyNode = io.ComfyNode
NodeOutput = io.NodeOutput
GpenModelType = io.Custom("GPEN_MODEL")
CropsType = io.Custom("GPEN_CROPS")
BoundingBoxes = io.Custom("BOUNDING_BOX")
BoxesOfAnyKind = io.Custom("BOUNDING_BOX,SEGS")  # the core's, and Impact Pack's segments

__all__ = [
    "BoundingBoxes",
    "BoxesOfAnyKind",
    "ComfyExtension",
    "ComfyNode",
    "CropsType",
    "ExecutionBlocker",
    "GpenModelType",
    "Input",
    "InputImpl",
    "NodeOutput",
    "folded",
    "io",
    "schema",
    "ui",
]


def schema(**arguments: Any) -> Any:
    """`io.Schema` with those of the arguments that this ComfyUI knows. Search words came later than the rest: before, they
    stand in the description."""
    known = inspect.signature(io.Schema).parameters
    words = arguments.get("search_aliases")
    if words and "search_aliases" not in known:
        arguments["description"] += f" Search words: {', '.join(words)}."
    return io.Schema(**{name: value for name, value in arguments.items() if name in known})


def folded(kind: Any) -> dict[str, Any]:
    """What makes an input one that need not be there, so that prompts saved before there was one still run, and puts it
    among the advanced ones, where this ComfyUI has such (0.8 and newer)."""
    known = inspect.signature(kind.Input.__init__).parameters
    return {"optional": True, **({"advanced": True} if "advanced" in known else {})}

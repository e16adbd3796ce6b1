"""Tells which nodes must keep their crops, because another node uses them. Each crop takes 50 MB at 2048 px.

ComfyUI caches the outputs of a node while its inputs stay the same, and connecting a node to an output changes no input. So
each graph gets a mark among the inputs of its restoring nodes when it is queued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import server

NODES = ("GPEN_RestoreFaces", "GPEN_CleanUpFaceSwap")
CROPS_OUTPUT = 2  # index of the output
MARK = "are_crops_used"  # not an input of the schema: ComfyUI does not pass it to the node


def register() -> None:
    """Mark the nodes of each graph that is queued. There is no server if ComfyUI is used as a library."""
    running = getattr(server.PromptServer, "instance", None)
    if running is not None:
        running.add_on_prompt_handler(_mark_nodes)


def are_used(prompt: Any, node_id: Any) -> bool:
    """Return whether another node uses the crops. True if the node is not in the queued graph: loops create such nodes."""
    node = prompt.get(str(node_id)) if isinstance(prompt, dict) else None
    return node is None or bool(node["inputs"].get(MARK, True))


def _mark_nodes(request: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI calls this with the request, which is not validated yet, and goes on with the result."""
    prompt = request.get("prompt")
    nodes = {key: one for key, one in prompt.items() if _has_inputs(one)} if isinstance(prompt, dict) else {}
    values = (value for one in nodes.values() for value in one["inputs"].values())
    used = [value[0] for value in values if isinstance(value, list) and value[1:] == [CROPS_OUTPUT]]
    for key, one in nodes.items():
        if one.get("class_type") in NODES:
            one["inputs"][MARK] = key in used
    return request


def _has_inputs(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("inputs"), dict)

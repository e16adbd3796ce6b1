"""Reads a GPEN network's weights from an ONNX file, maps them to the released names and verifies them.

A file whose weights cannot be mapped is returned whole, for ONNX Runtime."""

from __future__ import annotations

import io
import logging
from typing import BinaryIO

import torch

from ..network import OnnxModel
from . import file_format, onnx_as_is
from .onnx_graph import MAX_ONNX_BYTES, OnnxGraph, read_graph
from .onnx_mapping import map_state_dict
from .onnx_proof import RuntimeMissing, prove
from .unpickler import UnsafeCheckpoint

log = logging.getLogger(__name__)

OTHER_FORMATS = {
    "html": "it is a web page, not a weights file",
    "zip": "it is a torch.save file under another name: rename it to .pth",
    "safetensors": "it is a .safetensors file under another name: rename it",
}


def read(
    file: BinaryIO, size: int, as_is: bool = False, not_converted: str | None = None
) -> dict[str, torch.Tensor] | OnnxModel:
    """Read the state dict in float32, with the released names in the released order.

    If the file is a plausible GPEN whose weights cannot be mapped, or with `as_is`, the file itself is returned; see
    `onnx_as_is.to_model`. With `not_converted`, why an earlier conversion failed, it is not tried again. Raises
    `UnsafeCheckpoint` with the reason for other files. Only ONNX Runtime runs the file, after the whole graph was checked;
    see `onnx_proof.prove`."""
    if size > MAX_ONNX_BYTES:
        raise UnsafeCheckpoint(f"it has {size:,} bytes, but ONNX files are smaller than 2 GB")
    file.seek(0)
    reason = OTHER_FORMATS.get(file_format.file_format(file.read(file_format.HEADER_BYTES), size))
    if reason is not None:
        raise UnsafeCheckpoint(reason)
    file.seek(0)
    held = io.BytesIO(file.read())  # the checked bytes are the ones that are run, even if the file changes
    graph = read_graph(held, len(held.getbuffer()))
    if as_is or not_converted is not None:
        return onnx_as_is.to_model(held, graph, None if as_is else not_converted)
    try:
        state_dict, _ = map_state_dict(graph)
        prove(held, state_dict)
    except RuntimeMissing:
        raise
    except UnsafeCheckpoint as error:
        return _run_as_is(held, graph, error)
    return state_dict


def _run_as_is(held: io.BytesIO, graph: OnnxGraph, error: UnsafeCheckpoint) -> OnnxModel:
    """Return the file for ONNX Runtime. Raises `error`, why it cannot be converted, if it cannot be run either."""
    try:
        model = onnx_as_is.to_model(held, graph, str(error))
    except UnsafeCheckpoint:
        raise error from None
    try:
        onnx_as_is.try_run(held, model)
    except UnsafeCheckpoint as failure:
        raise UnsafeCheckpoint(f"{error}, and it cannot be run as it is: {failure}") from failure
    log.info("The weights cannot be converted, so ONNX Runtime runs the file: %s.", error)
    return model

"""Reads a GPEN network's weights from an ONNX file, maps them to the released names and verifies them."""

from __future__ import annotations

import io
from typing import BinaryIO

import torch

from . import file_format
from .onnx_graph import MAX_ONNX_BYTES, read_graph
from .onnx_mapping import map_state_dict
from .onnx_proof import prove
from .unpickler import UnsafeCheckpoint

OTHER_FORMATS = {
    "html": "it is a web page, not a weights file",
    "zip": "it is a torch.save file under another name: rename it to .pth",
    "safetensors": "it is a .safetensors file under another name: rename it",
}


def read(file: BinaryIO, size: int) -> dict[str, torch.Tensor]:
    """Read the state dict in float32, with the released names in the released order.

    Raises `UnsafeCheckpoint` with the reason if the file is not a known export of GPEN. Only ONNX Runtime runs the file,
    after the whole graph was checked; see `onnx_proof.prove`."""
    if size > MAX_ONNX_BYTES:
        raise UnsafeCheckpoint(f"it has {size:,} bytes, but ONNX files are smaller than 2 GB")
    file.seek(0)
    reason = OTHER_FORMATS.get(file_format.file_format(file.read(file_format.HEADER_BYTES), size))
    if reason is not None:
        raise UnsafeCheckpoint(reason)
    file.seek(0)
    held = io.BytesIO(file.read())  # the checked bytes are the ones that are run, even if the file changes
    state_dict, _ = map_state_dict(read_graph(held, len(held.getbuffer())))
    prove(held, state_dict)
    return state_dict

"""A GPEN network's weights from an ONNX file: read, mapped to the released names, and proven to be the file's own."""

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
    "html": "it is a web page, not a file of weights",
    "zip": "it is a file that torch.save wrote, under another name: rename it to .pth",
    "safetensors": "it is a .safetensors file under another name: rename it",
}


def read(file: BinaryIO, size: int) -> dict[str, torch.Tensor]:
    """The state dict in float32, with the released names in the released order.

    Raises `UnsafeCheckpoint` with the reason for a file that is no export of GPEN or is not understood. Nothing in it is run
    before all of it was checked, and then only by ONNX Runtime, for the proof; see `onnx_proof.prove`."""
    if size > MAX_ONNX_BYTES:
        raise UnsafeCheckpoint(f"it has {size:,} bytes, and no ONNX file can have 2 GB or more")
    file.seek(0)
    reason = OTHER_FORMATS.get(file_format.file_format(file.read(file_format.HEADER_BYTES), size))
    if reason is not None:
        raise UnsafeCheckpoint(reason)
    file.seek(0)
    held = io.BytesIO(file.read())  # what is checked is what is run, whoever writes to the file meanwhile
    state_dict, _ = map_state_dict(read_graph(held, len(held.getbuffer())))
    prove(held, state_dict)
    return state_dict

"""Proof that the weights read from an ONNX file are its own: by a known digest, or by running both networks.

The digest of a file says that it is the published file, not that it was understood.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
import torch.nn.functional as F

from ..errors import first_line, is_out_of_memory
from ..network import GPEN
from ..network.memory_estimate import CACHE_STRIP_BYTES
from ..optional_packages import install_command
from .catalog import tensor_digests
from .onnx_runtime import RUNTIME, has_runtime
from .unpickler import UnsafeCheckpoint

log = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-4
"""Standard deviations of the output; two runs of the same network in float32 differ by about 3e-6."""
MIN_DEVIATION = 1e-3  # of outputs in [-1, 1]: an image of one color has none
PATTERNS = (None, 8, 64)
"""Sides of the random images that are enlarged to the three inputs; None is noise in every pixel."""


def tensors_sha256(state_dict: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of a state dict: of each tensor in the order of the names, its name, type, shape and numbers."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        tensor = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def prove(file: BinaryIO, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raises `UnsafeCheckpoint` unless the catalog knows the digest of these tensors, or ONNX Runtime gives for the file
    what our network gives for them, on three images."""
    sha256 = tensors_sha256(state_dict)
    if sha256 in tensor_digests():
        return
    if not has_runtime():
        raise UnsafeCheckpoint(
            "whether its weights were read correctly can be shown only by running it in ONNX Runtime, which is not "
            f"installed: {install_command(RUNTIME)}"
        )
    difference = _largest_difference(file, state_dict)
    if not difference <= MAX_DIFFERENCE:
        raise UnsafeCheckpoint(
            f"its weights are in an order that is not known: the network made of them differs by {difference:.1e} of the "
            f"standard deviation from the file's own, and {MAX_DIFFERENCE:g} is allowed"
        )
    log.info(
        "The weights give what the ONNX file gives, within %.1e of the standard deviation. Their SHA-256 is %s.",
        difference,
        sha256,  # for `catalog.Export.tensors_sha256`
    )


def _largest_difference(file: BinaryIO, state_dict: Mapping[str, torch.Tensor]) -> float:
    """In standard deviations of our network's output."""
    expected = run_network(GPEN.from_state_dict(state_dict, torch.float32))
    found = run_runtime(file, [image for image, _ in expected])
    return max(
        float((y - wanted).abs().max() / wanted.std().clamp_min(MIN_DEVIATION)) for y, (_, wanted) in zip(found, expected)
    )


def run_network(network: GPEN) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The three images [1, 3, S, S], each with what our network makes of it."""
    images = [sample_image(network.size, number) for number in range(len(PATTERNS))]
    pairs = [(image, network(image, strip_bytes=CACHE_STRIP_BYTES)) for image in images]
    network.release_memory()
    return pairs


def sample_image(size: int, number: int) -> torch.Tensor:
    """[1, 3, size, size] in [-1, 1], the same on every machine: noise, or a few or many blurred spots."""
    side = PATTERNS[number]
    generator = torch.Generator().manual_seed(number)
    image = torch.rand(1, 3, side or size, side or size, generator=generator) * 2 - 1
    return image if side is None else F.interpolate(image, (size, size), mode="bilinear", align_corners=False)


def run_runtime(file: BinaryIO, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """What ONNX Runtime makes of images [B, 3, S, S] with a file, on the CPU. `UnsafeCheckpoint` if it cannot run it.

    Only for a file of our own, or one that `onnx_graph.read_graph` has accepted."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False  # which keeps what three runs need for more of them
    options.log_severity_level = 4  # what fails is raised, too
    file.seek(0)
    try:
        session = onnxruntime.InferenceSession(file.read(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        outputs = [torch.from_numpy(session.run(None, {name: image.numpy()})[0]) for image in images]
    except Exception as error:  # it has a type of its own for each status
        if is_out_of_memory(error):
            raise
        raise UnsafeCheckpoint(f"ONNX Runtime cannot run it ({first_line(error)[:200]})") from error
    if any(output.shape != image.shape or output.dtype != torch.float32 for output, image in zip(outputs, images)):
        raise UnsafeCheckpoint("what ONNX Runtime makes with it are no images of the size that it claims")
    return outputs

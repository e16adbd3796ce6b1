"""Verifies that weights were read correctly from an ONNX file: by a known digest, or by running both networks.

A matching digest of the file would only show that it is the published file, not that it was read correctly.
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
"""In standard deviations of the output. Two runs of the same network in float32 differ by about 3e-6."""
MIN_DEVIATION = 1e-3  # of outputs in [-1, 1], because an image of one color has a deviation of 0
PATTERNS = (None, 8, 64)
"""Sizes of the random images that are upscaled to the three inputs (px). None: noise at full resolution."""


class RuntimeMissing(UnsafeCheckpoint):
    """ONNX Runtime is not installed."""


def tensors_sha256(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over the name, type, shape and values of each tensor, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        tensor = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def prove(file: BinaryIO, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raise `UnsafeCheckpoint` unless the tensors are verified.

    They are verified if the catalog has their digest, or if ONNX Runtime with the file and our network with the tensors
    give the same output for three images."""
    sha256 = tensors_sha256(state_dict)
    if sha256 in tensor_digests():
        return
    if not has_runtime():
        raise RuntimeMissing(
            "its weights can be verified only in ONNX Runtime, which is not installed. Install it: "
            f"{install_command(RUNTIME)}"
        )
    difference = largest_difference(file, state_dict)
    if not difference <= MAX_DIFFERENCE:
        raise UnsafeCheckpoint(
            f"the order of its weights is unknown: the converted network's output differs by {difference:.1e} standard "
            f"deviations from the file's, more than {MAX_DIFFERENCE:g}"
        )
    log.info(
        "The converted weights match the ONNX file within %.1e standard deviations of the output. Their SHA-256 is %s.",
        difference,
        sha256,  # for `catalog.Export.tensors_sha256`
    )


def largest_difference(file: BinaryIO, state_dict: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference between the outputs of a file and of our network with these tensors, on three images.

    It is in standard deviations of our network's output. Raises `UnsafeCheckpoint` as `run_runtime` does, and
    `RuntimeMissing` without ONNX Runtime."""
    expected = run_network(GPEN.from_state_dict(state_dict, torch.float32))
    found = run_runtime(file, [image for image, _ in expected])
    return max(
        float((y - wanted).abs().max() / wanted.std().clamp_min(MIN_DEVIATION)) for y, (_, wanted) in zip(found, expected)
    )


def run_network(network: GPEN) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the three test images [1, 3, S, S], each with our network's output."""
    images = [sample_image(network.size, number) for number in range(len(PATTERNS))]
    pairs = [(image, network(image, strip_bytes=CACHE_STRIP_BYTES)) for image in images]
    network.release_memory()
    return pairs


def sample_image(size: int, number: int) -> torch.Tensor:
    """Return a test image [1, 3, size, size] in [-1, 1]: noise, or a few or many blurred spots.

    The image is the same on every machine."""
    side = PATTERNS[number]
    generator = torch.Generator().manual_seed(number)
    image = torch.rand(1, 3, side or size, side or size, generator=generator) * 2 - 1
    return image if side is None else F.interpolate(image, (size, size), mode="bilinear", align_corners=False)


def run_runtime(file: BinaryIO, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Run a file in ONNX Runtime on the CPU, on images [B, 3, S, S]. Raises `UnsafeCheckpoint` if that fails.

    One image is repeated if the file has a larger fixed batch size. Use this function only for files that we wrote or that
    `onnx_graph.read_graph` accepted."""
    if not has_runtime():
        raise RuntimeMissing(f"ONNX Runtime is not installed. Install it: {install_command(RUNTIME)}")
    file.seek(0)
    try:
        import onnxruntime

        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_cpu_mem_arena = False  # the arena keeps memory for later runs
        options.log_severity_level = 4  # errors are raised, too
        session = onnxruntime.InferenceSession(file.read(), options, providers=["CPUExecutionProvider"])
        outputs = [_run_session(session, image) for image in images]
    except Exception as error:  # ONNX Runtime has its own exception type for each status
        if is_out_of_memory(error):
            raise
        raise UnsafeCheckpoint(f"ONNX Runtime cannot run it ({first_line(error)[:200]})") from error
    if any(output.shape != image.shape or not output.is_floating_point() for output, image in zip(outputs, images)):
        raise UnsafeCheckpoint("its outputs in ONNX Runtime are not images of the size of the input")
    return [output.float() for output in outputs]


def _run_session(session: Any, image: torch.Tensor) -> torch.Tensor:
    given = session.get_inputs()[0]
    batch = given.shape[0] if isinstance(given.shape[0], int) else len(image)
    images = image.expand(batch, -1, -1, -1) if len(image) == 1 else image
    numbers = images.half() if given.type == "tensor(float16)" else images
    return torch.from_numpy(session.run(None, {given.name: numbers.contiguous().numpy()})[0])[: len(image)]

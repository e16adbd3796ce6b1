"""Recognizes ONNX exports of GPEN whose weights cannot be converted, but which ONNX Runtime can run."""

from __future__ import annotations

import io
import math

import torch

from ..network import RELEASED, RELEASED_SIZES, GPENConfig, OnnxModel
from .onnx_graph import FLOAT_TYPES, OnnxGraph
from .onnx_mapping import NOT_GPEN, find_base, image_size
from .onnx_proof import run_runtime, sample_image
from .unpickler import UnsafeCheckpoint

MAX_DEVIATION = 0.01
"""How far a file's number of weights may be from the layout's, as a fraction. GFPGAN has 20 % more, RestoreFormer 2 %."""
MULTIPLIERS = (1, 2)
KERNEL_RANK = 4
TORCH_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def to_model(file: io.BytesIO, graph: OnnxGraph, reason: str | None) -> OnnxModel:
    """Return the file as a network for ONNX Runtime. `graph` is what `onnx_graph.read_graph` accepted.

    It must be a plausible GPEN: [B, 3, S, S] in and out, with S one of `RELEASED_SIZES`, the learned constant, and the
    number of weights of that layout. Raises `UnsafeCheckpoint` if it is not."""
    config = _config(graph)
    if config is None:
        raise UnsafeCheckpoint(f"{NOT_GPEN}: the number of its weights matches no layout")
    return OnnxModel(file.getvalue(), config, _main_type(graph), reason)


def try_run(file: io.BytesIO, model: OnnxModel) -> None:
    """Run the model once on the CPU. Raises `UnsafeCheckpoint` if it fails or its output is not finite."""
    (output,) = run_runtime(file, [sample_image(model.config.size, 1)])
    if not output.isfinite().all():
        raise UnsafeCheckpoint("its output in ONNX Runtime has non-finite values")


def _config(graph: OnnxGraph) -> GPENConfig | None:
    size = image_size(graph)
    if size not in RELEASED_SIZES:
        raise UnsafeCheckpoint(f"its input is {size or 'of any size'}, expected {', '.join(map(str, RELEASED_SIZES))} px")
    narrow = find_base(graph).shape[1] / 512
    repeated = [node.inputs[0] for node in graph.nodes if node.operator == "Identity" and node.inputs]
    names = [*graph.tensors, *(name for name in repeated if name in graph.tensors)]  # exporters store equal tensors once
    count = sum(math.prod(tensor.shape) for name in names if (tensor := graph.tensors[name]).is_float)
    configs = [RELEASED[size], *(GPENConfig(size, narrow, multiplier) for multiplier in MULTIPLIERS)]
    return next((one for one in configs if abs(count / _count(one) - 1) <= MAX_DEVIATION), None)


def _count(config: GPENConfig) -> int:
    return sum(map(math.prod, config.parameter_shapes().values()))


def _main_type(graph: OnnxGraph) -> torch.dtype:
    """Return the type of most values of the kernels. Other weights stay in float32 in half-precision exports."""
    counts = dict.fromkeys(FLOAT_TYPES.values(), 0)
    for tensor in graph.tensors.values():
        if tensor.is_float and len(tensor.shape) >= KERNEL_RANK:
            counts[FLOAT_TYPES[tensor.type]] += math.prod(tensor.shape)
    return TORCH_TYPES.get(max(counts, key=lambda kind: counts[kind]), torch.float32)

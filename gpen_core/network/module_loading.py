"""Build the detector and facexlib's networks from a state dict. facexlib's own loader would download and unpickle files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import WeightsError, summarize_problems
from .state_dict import is_finite


def build_from_state_dict(build: Callable[[], nn.Module], state_dict: Mapping[str, torch.Tensor], name: str) -> nn.Module:
    """Build the module, load the tensors strictly and return it in evaluation mode.

    The weights are not initialized, so the host's random generator keeps its state. Raises `WeightsError` with the first
    five tensors that do not match."""
    named = dict(state_dict)
    with torch.device("meta"):
        module = build().float()  # whatever torch's default dtype is
    expected = module.state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):  # a counter that inference does not read
            named.setdefault(key, torch.zeros(value.shape, dtype=value.dtype, device="cpu"))
    problems = [f"{key} is missing" for key in expected if key not in named]
    problems += [f"{key} is unexpected" for key in named if key not in expected]
    problems += [
        problem for key in expected if key in named and (problem := _tensor_problem(key, named[key], expected[key]))
    ]
    if problems:
        raise WeightsError(f"These weights do not match {name}: {summarize_problems(problems)}.")
    tensors = {key: named[key].to(expected[key].dtype) for key in expected}
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def device_of(network: nn.Module) -> torch.device:
    """The current device of the weights. A host may have moved them."""
    return next(network.parameters()).device


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Multiply the weights of each convolution by the batch norm that is registered right after it, and remove the norm.

    The network must call them in that order, in evaluation mode. Its outputs change only by rounding."""
    children = list(network.named_children())
    for (name, first), (norm_name, second) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(first, second).requires_grad_(False))
            setattr(network, norm_name, nn.Identity())
    for _, child in children:
        fold_batch_norms(child)
    return network


def cast_convolutions(network: nn.Module, dtype: torch.dtype, *float32_layers: str) -> nn.Module:
    """Make the convolutions compute in `dtype`. The input must then have that dtype, too.

    The layers named by `float32_layers`, usually the output heads, convert their input and compute in float32. Batch norms
    that are left keep their parameters in float32. With float32 the network is unchanged, bit for bit."""
    if dtype == torch.float32:
        return network
    layers = (module for name in float32_layers for module in network.get_submodule(name).modules())
    float32_convs = {module for module in layers if isinstance(module, nn.Conv2d)}
    for module in network.modules():
        if module in float32_convs:
            module.register_forward_pre_hook(_in_float32)
        elif isinstance(module, nn.Conv2d):
            module.to(dtype)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return, unused-ignore]


def _in_float32(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.float() for x in args)


def _tensor_problem(key: str, tensor: object, expected: torch.Tensor) -> str | None:
    if not isinstance(tensor, torch.Tensor):
        return f"{key} is a {type(tensor).__name__}, not a tensor"
    if tensor.shape != expected.shape:
        return f"{key} has shape {list(tensor.shape)}, expected {list(expected.shape)}"
    if tensor.layout != torch.strided or tensor.is_meta:
        return f"{key} is sparse or has no values"
    if tensor.is_floating_point() != expected.is_floating_point():
        return f"{key} is {tensor.dtype}, expected {expected.dtype}"
    return None if is_finite(tensor) else f"{key} has non-finite values"

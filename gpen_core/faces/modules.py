"""facexlib's network classes filled from a state dict that is passed in; facexlib's own loader downloads and unpickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..errors import WeightsError, name_offenders


def fill(build: Callable[[], nn.Module], state_dict: Mapping[str, torch.Tensor], what: str) -> nn.Module:
    """Builds the module without initialising it (nothing is drawn from the host's random generator), takes the tensors
    in strictly and returns it in evaluation mode. `WeightsError` names the first five tensors that do not fit."""
    named = dict(state_dict)
    with torch.device("meta"):
        module = build()
    expected = module.state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):  # a counter that inference does not read
            named.setdefault(key, torch.zeros(value.shape, dtype=value.dtype))
    offences = [f"{key} is missing" for key in expected if key not in named]
    offences += [f"{key} does not belong there" for key in named if key not in expected]
    offences += [problem for key in expected if key in named and (problem := _problem(key, named[key], expected[key]))]
    if offences:
        raise WeightsError(f"These weights do not fit {what}: {name_offenders(offences)}.")
    tensors = {key: named[key].to(expected[key].dtype) for key in expected}
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def _problem(key: str, tensor: object, expected: torch.Tensor) -> str | None:
    if not isinstance(tensor, torch.Tensor):
        return f"{key} is a {type(tensor).__name__}, not a tensor"
    if tensor.shape != expected.shape:
        return f"{key} has shape {list(tensor.shape)}, expected {list(expected.shape)}"
    if tensor.layout != torch.strided or tensor.is_meta:
        return f"{key} is not dense, or has no values"
    if tensor.is_floating_point() != expected.is_floating_point():
        return f"{key} is {tensor.dtype}, expected {expected.dtype}"
    return None if torch.isfinite(tensor).all() else f"{key} holds values that are not finite"

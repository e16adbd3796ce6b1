"""Extract the state dict from a checkpoint and validate its names, shapes and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from ..errors import WeightsError, summarize_problems
from .config import CPU_FLOAT32, WRAPPERS, GPENConfig, Shape
from .onnx_network import OnnxModel

FLOAT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_WRAPPER_DEPTH = 4


def fir_kernel(gain: float) -> torch.Tensor:
    """The FIR filter [4, 4]: the outer product of [1, 3, 3, 1] / 8 with itself, times `gain`."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], **CPU_FLOAT32) / 8
    return gain * torch.outer(row, row)


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite. A sum is 20 times as fast to check; it may overflow, but it never hides a value."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def extract_state_dict(checkpoint: object) -> Mapping[str, torch.Tensor]:
    """The checkpoint itself, or the state dict in its `g_ema`, `params_ema`, `params`, `state_dict` or `model`.

    Names are not changed. Raises `WeightsError` if it is not a mapping to tensors."""
    for _ in range(MAX_WRAPPER_DEPTH):  # bounded, because a mapping in a file can contain itself
        if not isinstance(checkpoint, Mapping):
            break
        inner = next((checkpoint[k] for k in WRAPPERS if isinstance(checkpoint.get(k), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    if isinstance(checkpoint, OnnxModel):
        raise WeightsError(f"This ONNX file can be run, but not converted: {checkpoint.reason}.")
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(f"Expected a state dict (names to tensors), got {type(checkpoint).__name__}.")
    _raise_if_any(
        [f"{k} is a {type(v).__name__}, not a tensor" for k, v in checkpoint.items() if not isinstance(v, torch.Tensor)]
    )
    return checkpoint


def normalize_state_dict(checkpoint: object) -> dict[str, torch.Tensor]:
    """The same as `extract_state_dict`, without the prefix `module.` that data-parallel training adds to every name."""
    found = extract_state_dict(checkpoint)
    strip = bool(found) and all(str(key).startswith("module.") for key in found)
    return {str(key)[7:] if strip else str(key): value for key, value in found.items()}


def validate_state_dict(checkpoint: object, size: int | None = None) -> tuple[dict[str, torch.Tensor], GPENConfig]:
    """Return the unwrapped and validated state dict of a GPEN, and its configuration.

    Raises `WeightsError` with the first five invalid tensors, or if the network is not of the given `size`."""
    state_dict = normalize_state_dict(checkpoint)
    config = GPENConfig.from_state_dict(state_dict)
    validate_size(config, size)
    validate(state_dict, config)
    return state_dict, config


def validate_size(config: GPENConfig, size: int | None) -> None:
    """Raise `WeightsError` if the network is not of the given size. None allows all sizes."""
    if size is not None and config.size != size:
        raise WeightsError(
            f"These are the weights of GPEN-{config.size}, but the file name is that of GPEN-{size}. "
            "Rename the file, or delete it and download it again."
        )


def validate(state_dict: Mapping[str, torch.Tensor], config: GPENConfig) -> None:
    """Raise `WeightsError` with the first five tensors that are missing, unexpected, not float, not finite or have a wrong
    shape.

    FIR kernels may be missing. If present, they must have the values of [1, 3, 3, 1]."""
    validate_tensors(state_dict, config.parameter_shapes(), f"GPEN-{config.size}")


def validate_tensors(state_dict: Mapping[str, torch.Tensor], shapes: Mapping[str, Shape], name: str) -> None:
    """The same as `validate` for any network. `shapes` maps tensor names to shapes; `name` is the name of the network."""
    _raise_if_any(list(_problems(state_dict, shapes)), name)


def _problems(state_dict: Mapping[str, torch.Tensor], shapes: Mapping[str, Shape]) -> Iterator[str]:
    for key, shape in shapes.items():
        if key not in state_dict:
            if not key.endswith(".kernel"):
                yield f"{key} is missing"
        elif tuple(state_dict[key].shape) != shape:
            yield f"{key} has shape {list(state_dict[key].shape)}, expected {list(shape)}"
        elif (problem := _value_problem(key, state_dict[key])) is not None:
            yield f"{key} {problem}"
    yield from (f"{key} is unexpected" for key in state_dict if key not in shapes)


def _value_problem(key: str, tensor: torch.Tensor) -> str | None:
    if tensor.layout != torch.strided or tensor.dtype not in FLOAT_DTYPES or tensor.is_meta:
        kind = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
        return f"is {kind}{' without values' if tensor.is_meta else ''}, expected dense float32, float16 or bfloat16"
    if not is_finite(tensor):
        return "has non-finite values"
    if key.endswith(".kernel"):
        expected = fir_kernel(1.0 if key.startswith("ecd") else 4.0)
        if not torch.allclose(tensor.float().cpu(), expected, rtol=0, atol=1e-6):
            return "is not the [1, 3, 3, 1] filter of the released networks"
    return None


def _raise_if_any(problems: list[str], name: str = "GPEN") -> None:
    if problems:
        raise WeightsError(
            f"These weights do not match {name}: {summarize_problems(problems)}. "
            "The file is damaged or belongs to another network. Delete it and download it again."
        )

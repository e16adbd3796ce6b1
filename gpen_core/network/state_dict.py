"""From whatever a checkpoint holds to a state dict that is known to be complete, well-shaped and finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from ..errors import WeightsError, name_offenders
from .config import WRAPPERS, GPENConfig, Shape

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
DEEPEST_WRAPPING = 4


def fir_kernel(gain: float) -> torch.Tensor:
    """[4, 4]: the outer product of [1, 3, 3, 1] / 8 with itself, times `gain`."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return gain * torch.outer(row, row)


def find_state_dict(checkpoint: object) -> Mapping[str, torch.Tensor]:
    """The state dict itself, or the one in `g_ema`, `params_ema`, `params`, `state_dict` or `model`; names as they are."""
    for _ in range(DEEPEST_WRAPPING):  # a file may hold a mapping that contains itself
        if not isinstance(checkpoint, Mapping):
            break
        inner = next((checkpoint[k] for k in WRAPPERS if isinstance(checkpoint.get(k), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(f"Expected a state dict (names to tensors), got {type(checkpoint).__name__}.")
    _refuse([f"{k} is a {type(v).__name__}, not a tensor" for k, v in checkpoint.items() if not isinstance(v, torch.Tensor)])
    return checkpoint


def unwrap(checkpoint: object) -> dict[str, torch.Tensor]:
    """As `find_state_dict`, with the `module.` that data-parallel training puts before every name taken off."""
    found = find_state_dict(checkpoint)
    strip = bool(found) and all(str(key).startswith("module.") for key in found)
    return {str(key)[7:] if strip else str(key): value for key, value in found.items()}


def checked(checkpoint: object, size: int | None = None) -> tuple[dict[str, torch.Tensor], GPENConfig]:
    """The unwrapped state dict of a GPEN, complete and finite, and its configuration.

    Raises `WeightsError` naming the first five offenders, or if it is not of the `size` asked for."""
    state_dict = unwrap(checkpoint)
    config = GPENConfig.from_state_dict(state_dict)
    if size is not None and config.size != size:
        raise WeightsError(
            f"These are the weights of GPEN-{config.size}, and the file is named as those of GPEN-{size}. Nothing was "
            "loaded; rename the file, or download it again."
        )
    check(state_dict, config)
    return state_dict, config


def check(state_dict: Mapping[str, torch.Tensor], config: GPENConfig) -> None:
    """Raises `WeightsError` naming the first five offenders if anything is missing, extra, misshapen, non-float,
    non-finite, or a FIR buffer with other values than [1, 3, 3, 1]'s (those buffers alone may be absent)."""
    check_layout(state_dict, config.layout(), f"GPEN-{config.size}")


def check_layout(state_dict: Mapping[str, torch.Tensor], layout: Mapping[str, Shape], what: str) -> None:
    """As `check`, for any network: `layout` has the shape of each tensor by its name, `what` is the network's name."""
    _refuse(list(_offences(state_dict, layout)), what)


def _offences(state_dict: Mapping[str, torch.Tensor], layout: Mapping[str, Shape]) -> Iterator[str]:
    for key, shape in layout.items():
        if key not in state_dict:
            if not key.endswith(".kernel"):
                yield f"{key} is missing"
        elif tuple(state_dict[key].shape) != shape:
            yield f"{key} has shape {list(state_dict[key].shape)}, expected {list(shape)}"
        elif (problem := _value_problem(key, state_dict[key])) is not None:
            yield f"{key} {problem}"
    yield from (f"{key} does not belong there" for key in state_dict if key not in layout)


def _value_problem(key: str, tensor: torch.Tensor) -> str | None:
    if tensor.layout != torch.strided or tensor.dtype not in FLOATS or tensor.is_meta:
        kind = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
        return f"is {kind}{' without values' if tensor.is_meta else ''}, expected dense float32, float16 or bfloat16"
    if not torch.isfinite(tensor).all():
        return "holds values that are not finite"
    if key.endswith(".kernel"):
        expected = fir_kernel(1.0 if key.startswith("ecd") else 4.0)
        if not torch.allclose(tensor.float().cpu(), expected, rtol=0, atol=1e-6):
            return "is not the [1, 3, 3, 1] filter of the released networks"
    return None


def _refuse(offences: list[str], what: str = "GPEN") -> None:
    if offences:
        raise WeightsError(
            f"These weights do not fit {what}: {name_offenders(offences)}. "
            "Nothing was loaded; the file is damaged or of another network."
        )

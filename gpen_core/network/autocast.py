"""Keep the precision of torch computations where a host or program has switched on torch's automatic mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operations on `device` compute in the precision of their tensors.

    In `torch.autocast`, convolutions and matrix products would compute float32 tensors in half precision."""
    return torch.autocast(device.type, enabled=False) if _has_autocast(device.type) else nullcontext()


def _has_autocast(device_type: str) -> bool:
    if device_type in ("cpu", "cuda"):
        return True
    is_available = getattr(torch.amp, "is_autocast_available", None)  # torch 2.4 and newer
    return is_available is not None and bool(is_available(device_type))
